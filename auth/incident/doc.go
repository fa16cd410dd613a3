// Package incident finds the locks that belong together: those of accounts that were
// locked by wrong passwords from one source within a day, and those of ten accounts
// or more within ten minutes, from any sources. Support staff see one incident in place
// of forty locked accounts, learn whether it looks like an attack, and unlock its
// accounts together.
//
// An incident is computed from the locked accounts at each request ([Group], [Find]), so
// nothing is stored and all gateways on one store agree.
//
// Interfaces for people and for other programs call it a cause (in Vietnamese "nguyên
// nhân"); only the code says incident.
package incident
