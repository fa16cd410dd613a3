package grafana

import (
	"encoding/json"
	"strings"
)

// Dashboards returns all dashboards by the names of their files in deploy/grafana.
func Dashboards() map[string]Dashboard {
	return map[string]Dashboard{"auth-path.json": AuthPath(), "compliance.json": Compliance()}
}

// JSON returns the text of the file.
func (d Dashboard) JSON() ([]byte, error) {
	var text strings.Builder
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false) // expressions contain < and >
	e.SetIndent("", "  ")
	err := e.Encode(d)
	return []byte(text.String()), err
}

// text is a text in both languages.
type text struct{ vi, en string }

func (t text) title() string       { return t.vi + " / " + t.en }
func (t text) description() string { return t.vi + "\n\n" + t.en }

// prometheus is the data source selected above the panels.
var prometheus = source{Type: "prometheus", UID: "${datasource}"}

// of returns a metric of the gateways selected above the panels, with further matchers
// such as `outcome="accepted"`.
func of(metric string, matchers ...string) string {
	return metric + "{" + strings.Join(append([]string{`job=~"$job"`, `instance=~"$instance"`}, matchers...), ",") + "}"
}

// perSecond returns the rate of a counter, summed over all gateways by labels.
func perSecond(by string, metric string, matchers ...string) string {
	return sumBy(by) + "(rate(" + of(metric, matchers...) + "[$__rate_interval]))"
}

// during returns the increase of a counter within a span such as 1h.
func during(span, by, metric string, matchers ...string) string {
	return sumBy(by) + "(increase(" + of(metric, matchers...) + "[" + span + "]))"
}

func sumBy(labels string) string {
	if labels == "" {
		return "sum"
	}
	return "sum by (" + labels + ") "
}

// quantile returns a quantile of a histogram of seconds, over all gateways, by labels.
func quantile(q, by, metric string, matchers ...string) string {
	return "histogram_quantile(" + q + ", " + sumBy(strings.TrimSuffix("le, "+by, ", ")) + "(rate(" + of(metric+"_bucket", matchers...) + "[$__rate_interval])))"
}

// query is an expression with the name of its series.
type query struct{ legend, expr string }

// chart is a panel before the layout.
type chart struct {
	title   text
	about   text // its meaning, and what to do about it
	width   int  // of 24
	height  int
	panel   string // Grafana's type
	runbook string // section
	queries []query
	instant bool
	table   bool
	field   field
	options any
	special []override
	changes []transformation
}

// good and bad are the names of colours in thresholds.
const (
	good, notice, bad, calm = "green", "orange", "red", "blue"
)

// limits returns colours with the values from which they apply: the first from the
// beginning.
func limits(first string, more ...any) *thresholds {
	t := &thresholds{Mode: "absolute", Steps: []step{{Color: first}}}
	for i := 0; i+1 < len(more); i += 2 {
		t.Steps = append(t.Steps, step{Value: new(more[i].(float64)), Color: more[i+1].(string)})
	}
	return t
}

var byThreshold = &color{Mode: "thresholds"}

// upOrDown shows 1 and 0 as words.
func upOrDown() []mapping {
	return []mapping{{Type: "value", Options: map[string]mapped{
		"1": {Text: "OK", Color: good, Index: 0}, "0": {Text: "HỎNG / DOWN", Color: bad, Index: 1},
	}}}
}

// noValue shows a ratio without a value as words.
func noValue() []mapping {
	return []mapping{{Type: "special", Options: map[string]any{
		"match": "null+nan", "result": mapped{Text: "không ai đăng nhập / no logins", Color: calm},
	}}}
}

// big is a figure that can be read from a distance.
func big(title, about text, f field, queries ...query) chart {
	if f.Color == nil {
		f.Color = byThreshold
	}
	return chart{title: title, about: about, width: 4, height: 5, panel: "stat", queries: queries, instant: true, field: f, options: map[string]any{
		"colorMode": "background", "graphMode": "none", "justifyMode": "center", "orientation": "auto", "textMode": "auto",
		"percentChangeColorMode": "standard", "showPercentChange": false, "wideLayout": true,
		"reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
	}}
}

// lines is a graph over time.
func lines(title, about text, unit string, width int, queries ...query) chart {
	return chart{title: title, about: about, width: width, height: 9, panel: "timeseries", queries: queries,
		field: field{
			Unit: unit, Min: new(0.0), Color: &color{Mode: "palette-classic"},
			Custom: map[string]any{
				"drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 2, "fillOpacity": 10, "showPoints": "never",
				"spanNulls": false, "stacking": map[string]any{"mode": "none", "group": "A"}, "axisPlacement": "auto",
			},
		},
		options: map[string]any{
			"legend":  map[string]any{"displayMode": "table", "placement": "bottom", "showLegend": true, "calcs": []string{"lastNotNull", "max"}, "sortBy": "Max", "sortDesc": true},
			"tooltip": map[string]any{"mode": "multi", "sort": "desc", "hideZeros": true},
		}}
}

// stacked stacks the lines.
func (c chart) stacked() chart {
	c.field.Custom["stacking"] = map[string]any{"mode": "normal", "group": "A"}
	c.field.Custom["fillOpacity"] = 60
	c.field.Custom["lineWidth"] = 1
	return c
}

// drawn marks the thresholds of the colours.
func (c chart) drawn(t *thresholds) chart {
	c.field.Thresholds = t
	c.field.Custom["thresholdsStyle"] = map[string]any{"mode": "dashed"}
	return c
}

// colored sets the colour of a series by its name.
func (c chart) colored(names map[string]string, order ...string) chart {
	for _, name := range order {
		c.special = append(c.special, override{
			Matcher:    matcher{ID: "byName", Options: name},
			Properties: []property{{ID: "color", Value: color{Mode: "fixed", FixedColor: names[name]}}},
		})
	}
	return c
}

// bars shows the present figures side by side, in the order of the queries.
func bars(title, about text, orientation string, f field, queries ...query) chart {
	f.Color, f.Min = byThreshold, new(0.0)
	return chart{title: title, about: about, width: 12, height: 9, panel: "bargauge", queries: queries, instant: true, field: f, options: map[string]any{
		"displayMode": "basic", "orientation": orientation, "showUnfilled": true, "valueMode": "color", "namePlacement": "auto", "sizing": "auto",
		"minVizWidth": 8, "minVizHeight": 16, "maxVizHeight": 300,
		"legend":        map[string]any{"displayMode": "list", "placement": "bottom", "showLegend": false, "calcs": []string{}},
		"reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
	}}
}

// states shows over time what was up or down.
func states(title, about text, width int, queries ...query) chart {
	return chart{title: title, about: about, width: width, height: 9, panel: "state-timeline", queries: queries,
		field: field{Color: byThreshold, Thresholds: limits(bad, 1.0, good), Mappings: upOrDown(), Custom: map[string]any{"fillOpacity": 80, "lineWidth": 0}},
		options: map[string]any{
			"mergeValues": true, "showValue": "auto", "alignValue": "center", "rowHeight": 0.8,
			"legend":  map[string]any{"displayMode": "list", "placement": "bottom", "showLegend": false, "calcs": []string{}},
			"tooltip": map[string]any{"mode": "single", "sort": "none"},
		}}
}

// column is one column of a table that has a line for each value of a label.
type column struct {
	title text
	expr  string
	field map[string]any // further properties
}

// table has a line for each value of the label by.
func table(title, about text, width int, changes map[string]any, columns ...column) chart {
	c := chart{title: title, about: about, width: width, height: 9, panel: "table", instant: true, table: true,
		field:   field{Custom: map[string]any{"align": "left", "cellOptions": map[string]any{"type": "auto"}, "inspect": false}},
		options: map[string]any{"showHeader": true, "cellHeight": "sm", "frameIndex": 0}}
	renamed, hidden := map[string]string{}, map[string]bool{"Time": true}
	for i, col := range columns {
		c.queries = append(c.queries, query{expr: col.expr})
		name := "Value #" + refID(i)
		if len(columns) == 1 {
			name = "Value"
		}
		if col.title == (text{}) {
			hidden[name] = true
			continue
		}
		renamed[name] = col.title.title()
		o := override{Matcher: matcher{ID: "byName", Options: col.title.title()}}
		for _, id := range []string{"unit", "decimals", "mappings", "thresholds", "custom.cellOptions"} {
			if v, ok := col.field[id]; ok {
				o.Properties = append(o.Properties, property{id, v})
			}
		}
		if len(o.Properties) > 0 {
			c.special = append(c.special, o)
		}
	}
	for from, to := range changes {
		renamed[from] = to.(string)
	}
	c.changes = []transformation{
		{ID: "merge", Options: struct{}{}},
		{ID: "organize", Options: map[string]any{"excludeByName": hidden, "indexByName": struct{}{}, "renameByName": renamed}},
	}
	return c
}

// row is a heading and what is below it, laid out from left to right.
type row struct {
	title  text
	charts []chart
}

// layOut places the rows one below another.
func layOut(rows []row) (panels []Panel) {
	id, y := 0, 0
	for _, r := range rows {
		id++
		panels = append(panels, Panel{
			ID: id, Type: "row", Title: r.title.title(), GridPos: grid{H: 1, W: 24, Y: y}, Collapsed: new(false), Panels: &[]Panel{},
		})
		y++
		x, height := 0, 0
		for _, c := range r.charts {
			if x+c.width > 24 {
				x, y, height = 0, y+height, 0
			}
			id++
			p := c.build(id)
			p.GridPos = grid{H: c.height, W: c.width, X: x, Y: y}
			panels = append(panels, p)
			x, height = x+c.width, max(height, c.height)
		}
		y += height
	}
	return panels
}

func refID(i int) string { return string(rune('A' + i)) }

func (c chart) build(id int) Panel {
	p := Panel{
		ID: id, Type: c.panel, Title: c.title.title(), Description: c.about.description(), Datasource: &prometheus,
		FieldConfig: &fieldConfig{Defaults: c.field, Overrides: c.special}, Options: c.options, Transformations: c.changes,
	}
	if c.special == nil {
		p.FieldConfig.Overrides = []override{}
	}
	for i, q := range c.queries {
		t := Target{RefID: refID(i), Expr: q.expr, LegendFormat: q.legend, Instant: c.instant, Range: !c.instant, Datasource: prometheus, EditorMode: "code"}
		if c.table {
			t.Format = "table"
		}
		p.Targets = append(p.Targets, t)
	}
	if c.runbook != "" {
		p.Links = []link{
			guide("Sổ tay xử lý sự cố", "runbook.vi.md", c.runbook),
			guide("Runbook", "runbook.md", c.runbook),
		}
	}
	return p
}

// at sets the section of the runbook to which a panel links.
func (c chart) at(section string) chart { c.runbook = section; return c }

// guide links to a page of deploy/guide, wherever the operator has published it.
func guide(title, page, section string) link {
	l := link{Title: title, Type: "link", URL: "${guide}/" + page, Icon: "doc", Tags: []string{}, TargetBlank: true}
	if section != "" {
		l.URL += "#" + section
	}
	return l
}

// Tag is on every dashboard: it serves to find them and to link them with each other.
const Tag = "congthu"

// dashboard returns a dashboard with what all of them share.
func dashboard(uid string, title, about text, from string, rows []row) Dashboard {
	all := map[string]any{"text": "All", "value": "$__all"}
	labels := func(name string, label text, query string) variable {
		return variable{
			Name: name, Type: "query", Label: label.title(), Datasource: &prometheus, Refresh: 2, Sort: 1,
			Query: map[string]any{"query": query, "refId": "variable-" + name},
			Multi: true, IncludeAll: true, AllValue: ".+", Current: all,
		}
	}
	return Dashboard{
		UID: uid, Title: title.title(), Description: about.description(), Tags: []string{Tag},
		SchemaVersion: 39, Editable: true, GraphTooltip: 1, Timezone: "browser", Refresh: "30s", Time: span{From: from, To: "now"},
		Templating: templating{List: []variable{
			{Name: "datasource", Type: "datasource", Label: text{"Nguồn dữ liệu", "Data source"}.title(), Query: "prometheus", Refresh: 1},
			labels("job", text{"Nhóm", "Job"}, "label_values(congthu_build_info, job)"),
			labels("instance", text{"Máy", "Instance"}, `label_values(up{job=~"$job"}, instance)`),
			{
				Name: "guide", Type: "constant", Label: "Guide", Hide: 2, Query: GuideURL,
				Description: text{"Nơi đặt các trang hướng dẫn", "Where the pages of the guide are"}.title(),
				Current:     map[string]any{"text": GuideURL, "value": GuideURL},
			},
		}},
		Links: []link{
			{Title: "congthu", Type: "dashboards", Tags: []string{Tag}, Icon: "external link", IncludeVars: true, KeepTime: true},
			guide("Sổ tay xử lý sự cố", "runbook.vi.md", ""),
			guide("Runbook", "runbook.md", ""),
		},
		Panels: layOut(rows),
	}
}

// GuideURL is the default target of the links to the runbook, which the variable guide
// can change: a directory below Grafana's own static files, which needs no further
// server. deploy/guide/monitoring.md says how to put the guide there.
const GuideURL = "/public/congthu"
