// Package dashboards checks the expressions in deploy/grafana: they parse as
// PromQL, and every metric, label and label value in them is one that congthu has
// (metrics/testdata/names.golden, which a test of package metrics keeps true).
package dashboards
