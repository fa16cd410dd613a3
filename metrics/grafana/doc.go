// Package grafana writes the dashboards in deploy/grafana from a description of
// their panels.
//
// A dashboard as Grafana stores it is three thousand lines in which nobody sees a
// wrong threshold. Here a panel is a title, a sentence on what to do about it, a
// unit and an expression, and the selectors that every expression needs (job,
// instance) are added in one place. After a change:
//
//	go generate ./metrics/grafana     (or: make dashboards)
//
// rewrites the files; a test keeps them equal to what is generated. That the
// expressions parse, name metrics that exist and are answered by a Prometheus, and
// that the files are what Grafana reads, is tested in deploy/tools/dashboards,
// deploy/tools/grafana-schema and gateway/realtest.
//
// Titles and descriptions are Vietnamese first, then English, in the same panel.
// Two sets of files would be two links: the operator who telephones with a
// consultant at night must be able to say "the third from the left" and send the
// address of what is on the screen. Legends are the label values themselves,
// untranslated, because the same words stand in the log and in the audit log.
//
// There are two dashboards. [AuthPath] answers whether people can log in, and if
// not, which part is to blame: it is read from the top left, by somebody who has
// just been woken. [Compliance] tells how the regulation stands: who is locked, who
// will be refused next week, what is only watched.
//
// Gauges that come from the store (accounts, rules) are the same in every gateway
// that shares it: they are joined with max. What a gateway did by itself (attempts,
// bytes) is added up.
package grafana

//go:generate go test -run ^TestTheFilesAreWhatIsGenerated$ . -update
