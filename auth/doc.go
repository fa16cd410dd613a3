// Package auth holds the rules of the official-mail regulation.
package auth
