// Checks the dashboards in deploy/grafana against the TypeScript types that
// Grafana publishes as its schema (npm @grafana/schema).
//
// Each dashboard becomes the literal of a constant whose type is the schema's, and
// the compiler judges: a literal must have every required field, no field that the
// schema does not know, and only the values that it allows. The schema leaves the
// options of a panel open, so they are checked with the types of their own panel.
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const dashboards = join(here, "../../grafana");
const build = join(here, "build");

// The panels that are used, with the modules that describe them.
const panels = { stat: "stat/panelcfg/x/StatPanelCfg", timeseries: "timeseries/panelcfg/x/TimeSeriesPanelCfg", bargauge: "bargauge/panelcfg/x/BarGaugePanelCfg",
  table: "table/panelcfg/x/TablePanelCfg", "state-timeline": "statetimeline/panelcfg/x/StateTimelinePanelCfg" };
const withFields = ["timeseries", "table", "state-timeline"]; // have a FieldConfig as well
const identifier = (type) => type.replaceAll("-", "_");

const lines = [
  `import type { DataQuery } from "@grafana/schema";`,
  `import type { Dashboard, Panel, RowPanel } from "@grafana/schema/dist/esm/raw/dashboard/x/Dashboard_types.gen";`,
  ...Object.entries(panels).map(([type, module]) => `import type * as ${identifier(type)} from "@grafana/schema/dist/esm/raw/composable/${module}_types.gen";`),
  // JSON has no enumerations: the value stands for its name. What is open stays open.
  `type Json<T> = unknown extends T ? T : T extends string ? \`\${T}\` : T extends number | boolean | null | undefined ? T`,
  `  : T extends Array<infer E> ? Array<Json<E>> : { [K in keyof T]: Json<T[K]> };`,
  // The query of the Prometheus data source, which is no part of the package.
  `interface Query extends DataQuery { expr: string; legendFormat?: string; instant: boolean; range: boolean; format?: "table"; editorMode: "code" }`,
];
let n = 0;
const literal = (type, value) => lines.push(`export const c${n++}: Json<${type}> = ${JSON.stringify(value)};`);
// The compiler reports a line on which it finds no mistake, if one is announced.
const mistake = (type, value) => { lines.push("// @ts-expect-error"); literal(type, value); };
const where = {}; // by line
const note = (what) => { where[lines.length] = what; };

let checked = 0;
for (const file of readdirSync(dashboards).filter((name) => name.endsWith(".json"))) {
  const dashboard = JSON.parse(readFileSync(join(dashboards, file), "utf8"));
  const { panels: all, ...frame } = dashboard;
  literal("Dashboard", frame);
  note(file);
  for (const panel of all) {
    literal(panel.type === "row" ? "RowPanel" : "Panel", panel);
    note(`${file}: ${panel.title}`);
    checked++;
    if (panel.type === "row") continue;
    if (!panels[panel.type]) throw new Error(`${file}: ${panel.title}: no schema is known for a panel of type ${panel.type}: add it to check.mjs`);
    literal(`${identifier(panel.type)}.Options`, panel.options);
    note(`${file}: ${panel.title}: options`);
    if (withFields.includes(panel.type)) {
      literal(`${identifier(panel.type)}.FieldConfig`, panel.fieldConfig.defaults.custom);
      note(`${file}: ${panel.title}: fieldConfig.defaults.custom`);
    } else if (panel.fieldConfig.defaults.custom) {
      throw new Error(`${file}: ${panel.title}: a panel of type ${panel.type} has no custom fields`);
    }
    for (const target of panel.targets) {
      literal("Query", target);
      note(`${file}: ${panel.title}: query ${target.refId}`);
    }
    if (checked === 2) { // the check must be able to fail
      mistake("Panel", { ...panel, titel: "a field that there is not" });
      mistake("Panel", { ...panel, type: undefined });
      mistake("Panel", { ...panel, gridPos: { ...panel.gridPos, w: "4" } });
      mistake("Panel", { ...panel, fieldConfig: { ...panel.fieldConfig, defaults: { ...panel.fieldConfig.defaults, color: { mode: "treshold" } } } });
      mistake(`${identifier(panel.type)}.Options`, { ...panel.options, colorMode: "sometimes" });
      mistake("Query", { ...panel.targets[0], expresion: "up" });
      mistake("Dashboard", { ...frame, schemaVersion: "39" });
      mistake("Dashboard", { ...frame, templating: { list: [{ ...frame.templating.list[0], type: "datasources" }] } });
    }
  }
}
if (checked < 20) throw new Error(`only ${checked} panels were found`);

mkdirSync(build, { recursive: true });
writeFileSync(join(build, "dashboards.ts"), lines.join("\n") + "\n");
try {
  execFileSync(process.execPath, [join(here, "node_modules/typescript/bin/tsc"), "--noEmit", "--strict", "--skipLibCheck",
    "--exactOptionalPropertyTypes", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler", join(build, "dashboards.ts")], { encoding: "utf8", cwd: here });
} catch (failure) {
  process.stderr.write(String(failure.stdout).replaceAll(/dashboards\.ts\((\d+),\d+\)/g, (at, line) => `${at} [${where[line] ?? "a mistake that must be found"}]`));
  process.exit(1);
}
console.log(`${checked} panels conform to @grafana/schema ${JSON.parse(readFileSync(join(here, "node_modules/@grafana/schema/package.json"), "utf8")).version}`);
