// What the pages share that open from a file: selections kept in the address, tables, cards.

const data = JSON.parse(document.getElementById("data").textContent);
const form = document.getElementById("asked");
const shownHere = document.getElementById("shown");

function node(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

// Fields: name → { label, options: [[value, shown], ...] }. The first option is the default.
function selections(fields) {
  const asked = new URLSearchParams(location.hash.slice(1));
  const values = {};
  for (const [name, { options }] of Object.entries(fields)) {
    const known = options.map(([value]) => String(value));
    values[name] = known.includes(asked.get(name)) ? asked.get(name) : known[0];
  }
  return values;
}

function offer(fields, values, changed) {
  form.replaceChildren(...Object.entries(fields).map(([name, { label, options }]) => {
    const select = node("select", "");
    select.name = name;
    for (const [value, words] of options) {
      const option = node("option", "", words);
      option.value = value;
      option.selected = String(value) === values[name];
      select.append(option);
    }
    select.addEventListener("change", () => changed(name, select.value));
    return node("label", "", label, select);
  }));
}

function remember(fields, values) {
  const kept = new URLSearchParams();
  for (const [name, { options }] of Object.entries(fields)) {
    if (values[name] !== String(options[0][0])) kept.set(name, values[name]);
  }
  const wanted = kept.toString();
  if (location.hash.slice(1) !== wanted) history.replaceState(null, "", `#${wanted}`);
}

// `fieldsOf` says what is asked, given what is chosen; `show` fills the page.
function run(fieldsOf, show) {
  const again = (values) => {
    const fields = fieldsOf(values);
    const now = selections(fields);
    offer(fields, now, (name, value) => {
      const next = { ...now, [name]: value };
      remember(fields, next);
      again(next);
    });
    shownHere.replaceChildren();
    show(now);
  };
  addEventListener("hashchange", () => again({}));
  again({});
}

function cards(made) {
  return node("div", "pl-cards", ...made.map(([label, value, note]) => node("div", "pl-card",
    node("div", "pl-label", label), node("div", "pl-value", value), node("div", "pl-note", note))));
}

function table(heads, rows, texts) {
  const kind = (at) => (at < texts ? "text" : "number");
  const top = node("tr", "", ...heads.map((head, at) => node("th", kind(at), head)));
  const lines = rows.map((row) => node("tr", "", ...row.map((cell, at) => node("td", kind(at), cell))));
  return node("div", "pl-scroll", node("table", "pl-table", node("thead", "", top), node("tbody", "", ...lines)));
}

function drawn(spec) {
  const place = node("div", "");
  queueMicrotask(() => mount(place, { low: "", high: "", color: "", strong: "", log_x: false, log_y: false,
    stacked: false, overlaid: false, rules: [], caption: "", ...spec }));
  return place;
}

const percent = (value) => `${(100 * value).toFixed(1)} %`;
