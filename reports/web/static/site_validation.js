// The error report from a file: the same filters, figures and definitions as the app's page.

const MOST_BARS = 30, MOST_COLOURS = 10, WORST = 15, MOST_POINTS = 3000;

function fieldsOf() {
  const all = (name) => [["all", "all"], ...data.texts[name].names.map((each) => [each, each])];
  return {
    metric: { label: "Metric", options: ["e2e", "ttft", "tpot"].map((each) => [each, data.metrics[each]]) },
    load: { label: "Load", options: ["fixed batch", "served", "all"].map((each) => [each, each]) },
    system: { label: "System", options: all("system") },
    engine: { label: "Engine", options: all("engine") },
    way: { label: "Predictions", options: Object.entries(data.ways) },
  };
}

const text = (name, at) => data.texts[name].names[data.texts[name].codes[at]];
const number = (name, at) => data.numbers[name][at];

function chosen(values) {
  const rows = [];
  for (let at = 0; at < data.texts.system.codes.length; at++) {
    if (text("metric", at) !== values.metric || number(values.way, at) === null) continue;
    if (["load", "system", "engine"].every((name) => values[name] === "all" || text(name, at) === values[name])) rows.push(at);
  }
  return rows;
}

function quantile(sorted, share) {
  const place = (sorted.length - 1) * share, low = Math.floor(place);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (place - low);
}

function errors(rows, way) {
  const logs = rows.map((at) => Math.log(number(way, at) / number("measured_s", at)));
  const sizes = logs.map((each) => Math.abs(Math.expm1(each))).sort((a, b) => a - b);
  const mean = (values) => values.reduce((sum, each) => sum + each, 0) / values.length;
  return {
    rows: rows.length,
    geomean: Math.expm1(mean(logs.map(Math.abs))),
    median: quantile(sizes, 0.5),
    p90: quantile(sizes, 0.9),
    bias: Math.expm1(mean(logs)),
    within: sizes.filter((each) => each <= 0.1).length / sizes.length,
  };
}

function gathered(rows, keyOf) {
  const groups = new Map();
  for (const at of rows) {
    const key = keyOf(at);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(at);
  }
  return groups;
}

const pairOf = (at) => `${text("system", at)} · ${text("engine", at)}`;

function byGroup(rows, way) {
  const pairs = gathered(rows, pairOf);
  const name = pairs.size > 1 ? "system · engine" : "model";
  const groups = pairs.size > 1 ? pairs : gathered(rows, (at) => text("model", at));
  const found = [...groups].map(([group, mine]) => {
    const said = errors(mine, way);
    const models = new Set(mine.map((at) => text("model", at))).size;
    return [group, models, said.rows, said.geomean, said.median, said.p90, said.bias, said.within];
  }).sort((a, b) => b[3] - a[3]);
  return {
    name: "plumbline-errors", title: `Geomean error by ${name}`, mark: "bar", x: "geomean", y: "group",
    columns: [["group", name, ""], ["models", "models", ""], ["rows", "rows", ""],
      ["geomean", "geomean error", "share"], ["median", "median error", "share"], ["p90", "p90 error", "share"],
      ["bias", "bias", "share"], ["within", "within 10 %", "share"]].map(([each, title, unit]) => ({ name: each, title, unit })),
    rows: found.slice(0, MOST_BARS),
    caption: found.length > MOST_BARS ? `The worst ${MOST_BARS}; ${found.length - MOST_BARS} more are better.` : "",
  };
}

function scatter(rows, way) {
  const few = ["model", "engine", "system"].find((name) => {
    const count = new Set(rows.map((at) => text(name, at))).size;
    return count > 1 && count <= MOST_COLOURS;
  });
  const every = Math.max(1, rows.length / MOST_POINTS);
  const kept = rows.filter((_, place) => Math.floor(place / every) !== Math.floor((place - 1) / every));
  const columns = [["system", "system", ""], ["engine", "engine", ""], ["model", "model", ""], ["load", "load", ""],
    ["devices", "devices", ""], ["batch", "sequences", ""], ["tokens", "prompt and answer, tokens", ""],
    ["measured_s", "measured", "s"], ["predicted_s", "predicted", "s"], ["ratio", "predicted / measured", ""],
    ["source", "source", ""]].map(([name, title, unit]) => ({ name, title, unit }));
  return {
    columns,
    color: few || "load",
    rows: kept.map((at) => [text("system", at), text("engine", at), text("model", at), text("load", at),
      number("devices", at), number("batch", at), number("input", at) + number("output", at),
      number("measured_s", at), number(way, at), number(way, at) / number("measured_s", at), text("source", at)]),
    sample: kept.length < rows.length ? ` An even sample of ${kept.length} of ${rows.length} points.` : "",
  };
}

function worst(rows, way) {
  const far = (at) => Math.abs(Math.log(number(way, at) / number("measured_s", at)));
  const best = gathered([...rows].sort((a, b) => far(b) - far(a)), (at) => `${pairOf(at)} ${text("model", at)}`);
  return [...best.values()].slice(0, WORST).map(([at]) => [pairOf(at), text("model", at), text("source", at),
    ...["devices", "batch", "input", "output"].map((name) => shown(number(name, at), "")),
    shown(number("measured_s", at), "s"), shown(number(way, at), "s"),
    (number(way, at) / number("measured_s", at)).toFixed(2)]);
}

function show(values) {
  const rows = chosen(values);
  if (!rows.length) {
    shownHere.append(node("p", "pl-sentence", "Nothing was measured that all of these filters leave."));
    return;
  }
  const said = errors(rows, values.way);
  const points = scatter(rows, values.way);
  const models = new Set(rows.map((at) => text("model", at))).size;
  shownHere.append(
    cards([
      ["Geomean error", percent(said.geomean), `${data.ways[values.way]}; ${said.rows} rows`],
      ["Median error", percent(said.median), "half of all rows are closer"],
      ["p90 error", percent(said.p90), "nine tenths of all rows are closer"],
      ["Bias", percent(said.bias), "above 0: predicted too slow"],
      ["Within 10 %", percent(said.within), "of all rows"],
      ["Models", String(models), `in ${gathered(rows, pairOf).size} groups of one system and engine`],
    ]),
    drawn(byGroup(rows, values.way)),
    node("div", "pl-pair",
      drawn({ ...points, name: "plumbline-parity", title: `Predicted against measured: ${data.metrics[values.metric]}`,
        mark: "parity", x: "measured_s", y: "predicted_s", caption: `Shaded: ±10 % and ±20 %.${points.sample}` }),
      drawn({ ...points, name: "plumbline-ratios", title: "Predicted over measured, against prompt and answer", mark: "point",
        x: "tokens", y: "ratio", log_x: true, log_y: true, rules: [{ axis: "y", value: 1, label: "as measured" }],
        caption: points.sample.trim() })),
    node("h2", "pl-heading", "The worst row of each system, engine and model"),
    table(["system and engine", "model", "source", "devices", "sequences", "prompt", "answer", "measured", "predicted", "ratio"],
      worst(rows, values.way), 3),
    node("p", "pl-sentence soft", `${data.definitions.join("; ")}.`),
  );
}

function start() {
  run(fieldsOf, show);
}
