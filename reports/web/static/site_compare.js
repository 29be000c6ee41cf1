// Comparisons from a file: worked out beforehand, chosen and drawn here.

const place = Object.fromEntries(data.columns.map((name, at) => [name, at]));
const caseTitle = (name) => data.cases[name].title;

function fieldsOf(values) {
  const options = (names, titles = (each) => each) => names.map((each) => [each, titles(each)]);
  const asked = new URLSearchParams(location.hash.slice(1));
  const by = values.by || asked.get("by") || "use cases";
  const first = (names, wanted) => [wanted, ...names.filter((each) => each !== wanted)];
  const all = {
    by: { label: "Compare", options: options(["use cases", "models", "systems", "technologies"]) },
    model: { label: "Model", options: options(first(data.models, data.models.includes("llama-3.1-8b") ? "llama-3.1-8b" : data.models[0])) },
    system: { label: "System", options: options(first(data.systems, data.systems.includes(data.base) ? data.base : data.systems[0])) },
    case: { label: "Use case", options: options(Object.keys(data.cases), caseTitle) },
    batch: { label: "Batch, sequences", options: options(data.batches, String) },
  };
  const hidden = { "use cases": ["case"], models: ["model"], systems: ["system"], technologies: ["system"] };
  for (const name of hidden[by] || []) delete all[name];
  return all;
}

const KINDS = {
  "use cases": { key: "case", title: caseTitle, keep: (row) => row[place.part] === "" },
  models: { key: "model", title: (each) => each, keep: (row) => row[place.part] === "" },
  systems: { key: "system", title: (each) => each, keep: (row) => row[place.part] === "" },
  technologies: { key: "part", title: (each) => (each ? data.parts[each][0] : `${data.base} as it is`),
    keep: (row) => row[place.system] === data.base },
};

function bars(rows, kind, metric, title, unit, perDevice) {
  const cells = rows.map((row) => {
    const share = perDevice ? row[place.devices] : 1;
    const value = (name) => (row[place[name]] === null ? null : row[place[name]] / share);
    return [kind.title(row[place[kind.key]]), value(metric), value(`${metric}_low`), value(`${metric}_high`)];
  });
  return drawn({
    name: `plumbline-compare-${metric.replace("_s", "").replaceAll("_", "-")}`, title, mark: "bar", x: "value", y: "name",
    low: "low", high: "high", rows: cells,
    columns: [["name", "name", ""], ["value", title.toLowerCase(), unit], ["low", "low end of the interval", unit],
      ["high", "high end of the interval", unit]].map(([name, words, each]) => ({ name, title: words, unit: each })),
    caption: cells.some((row) => row[2] !== null) ? "Whiskers: where measurements lay around such predictions." : "",
  });
}

function show(values) {
  const kind = KINDS[values.by];
  const rows = data.rows.filter((row) => kind.keep(row) && ["model", "system", "case", "batch"].every((name) =>
    name === kind.key || !(name in values) || String(row[place[name]]) === values[name]));
  const length = values.case ? data.cases[values.case] : null;
  shownHere.append(node("p", "pl-sentence", `${rows.length} ${values.by} side by side, batch ${values.batch}`
    + `${length ? `, ${shown(length.input_tokens, "")} tokens in, ${shown(length.output_tokens, "")} out` : ""}`
    + ", on the fewest devices that hold the batch."));
  const answered = rows.filter((row) => !row[place.problem]);
  for (const row of rows.filter((each) => each[place.problem])) {
    shownHere.append(node("p", "pl-sentence soft", `${kind.title(row[place[kind.key]])}: ${row[place.problem]}.`));
  }
  shownHere.append(
    table(["", "rates", "devices", "first token", "per token", "end to end", "decoding per device", "memory per device", "cost per million"],
      answered.map((row) => [kind.title(row[place[kind.key]]), row[place.rates], shown(row[place.devices], ""),
        ...["ttft_s", "tpot_s", "e2e_s"].map((name) => shown(row[place[name]], "s")),
        shown(row[place.decode_tok_s] / row[place.devices], "tok/s"), shown(row[place.memory_B], "B"),
        shown(row[place.usd], "USD")]), 2),
    node("div", "pl-pair",
      bars(rows, kind, "ttft_s", "Time to first token", "s"),
      bars(rows, kind, "tpot_s", "Time per output token", "s"),
      bars(rows, kind, "e2e_s", "End to end", "s"),
      bars(rows, kind, "decode_tok_s", "Decoding, per device", "tok/s", true)));
  if (values.by === "technologies") {
    shownHere.append(node("p", "pl-sentence soft", "Machines with a part replaced were never measured: the software is taken to "
      + "reach the same shares of the new peaks. They have no interval. Memories: five stacks per device."),
    table(["technology", "source"], Object.values(data.parts), 2));
  }
}

function start() {
  run(fieldsOf, show);
}
