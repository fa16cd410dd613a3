// Package grafana writes the dashboards in deploy/grafana from a description of their
// panels.
//
// A dashboard as Grafana stores it has three thousand lines, in which a wrong threshold
// is hard to see. Here a panel is a title, a sentence on what to do about it, a unit
// and an expression, and the selectors that every expression needs (job, instance) are
// added in one place. After a change, `go generate ./metrics/grafana` (or `make
// dashboards`) rewrites the files; a test keeps them equal to the generated text. Tests
// in deploy/tools/dashboards, deploy/tools/grafana-schema and gateway/realtest check
// that the expressions parse, name existing metrics and get an answer from a
// Prometheus, and that the files conform to Grafana's schema.
//
// Titles and descriptions are Vietnamese first, then English, in the same panel. Two
// sets of files would be two links: an operator on the telephone with a consultant at
// night must be able to say "the third from the left" and send the address of the
// screen. Legends are the label values themselves, untranslated, because the log and
// the audit log use the same words.
//
// There are two dashboards. [AuthPath] shows whether people can log in, and if not,
// which part has the fault: it is read from the top left, by an administrator who has
// just been woken. [Compliance] shows the state of the regulation: which accounts are
// locked, which will be refused next week, which rules are in warn mode.
//
// Gauges that come from the store (accounts, rules) are the same in every gateway that
// shares it: they are combined with max. What a gateway does by itself (attempts,
// bytes) is summed.
package grafana

//go:generate go test -run ^TestTheFilesAreWhatIsGenerated$ . -update
