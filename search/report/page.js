"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const byId = (id) => document.getElementById(id);

  // The table: sorted by a click on a column, filtered by what is typed; rows come to the page a few at a time.
  const table = read("table");
  const STEP = 25;
  const BAD = new Set(["diverged", "collapsed", "out_of_memory", "failed"]);
  const place = new Map(table.columns.map((column, index) => [column.name, index]));
  const state = { rows: table.rows, shown: STEP, sort: null, down: false, all: false };

  function condition(word) {
    const found = /^([\w.-]+)(>=|<=|!=|==|=|>|<)(.*)$/.exec(word);
    if (!found) {
      const text = word.toLowerCase();
      return (row) => row.some((cell) => cell !== null && String(cell).toLowerCase().includes(text));
    }
    const [, name, operator, typed] = found;
    if (!place.has(name)) return null;
    const index = place.get(name);
    const number = table.columns[index].number;
    const value = number ? Number(typed) : typed.replace(/^["']|["']$/g, "").toLowerCase();
    if (typed === "" || (number && Number.isNaN(value))) return null;
    const tests = {
      "=": (cell) => cell === value, "==": (cell) => cell === value, "!=": (cell) => cell !== value,
      ">": (cell) => cell > value, "<": (cell) => cell < value,
      ">=": (cell) => cell >= value, "<=": (cell) => cell <= value,
    };
    const test = tests[operator];
    return (row) => {
      const cell = row[index];
      return cell !== null && test(number ? cell : String(cell).toLowerCase());
    };
  }

  function filterAndSort() {
    const words = byId("filter").value.trim().split(/\s+/).filter((word) => word && word !== "and");
    const conditions = words.map(condition);
    const wrong = conditions.includes(null);
    byId("filter").classList.toggle("wrong", wrong);
    const kept = conditions.filter((one) => one !== null);
    let rows = kept.length ? table.rows.filter((row) => kept.every((one) => one(row))) : table.rows;
    if (state.sort !== null) {
      const index = place.get(state.sort);
      const order = state.down ? -1 : 1;
      rows = [...rows].sort((one, other) => {
        const [a, b] = [one[index], other[index]];
        if (a === b) return 0;
        if (a === null) return 1;
        if (b === null) return -1;
        return (a < b ? -1 : 1) * order;
      });
    }
    state.rows = rows;
    const words_of = wrong ? words.filter((_, index) => conditions[index] === null) : [];
    byId("count").textContent = wrong
      ? `cannot read ${words_of.join(" ")}`
      : `${rows.length.toLocaleString("en")} of ${table.rows.length.toLocaleString("en")}`;
  }

  const names = () => (state.all ? table.columns.map((column) => column.name) : table.first);

  function write(cell, column) {
    if (cell === null) return "";
    if (cell === true) return "yes";
    if (cell === false) return "no";
    if (column.score || column.name === "threshold") return cell.toFixed(4);
    if (column.name === "parameters") return cell.toLocaleString("en");
    if (column.number && !Number.isInteger(cell)) return String(Number(cell.toPrecision(4)));
    return String(cell);
  }

  function drawHead() {
    const line = document.createElement("tr");
    for (const name of names()) {
      const column = table.columns[place.get(name)];
      const cell = document.createElement("th");
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      if (column.meaning) button.title = column.meaning;
      cell.className = column.number ? "number" : "";
      if (state.sort === name) cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      button.addEventListener("click", () => {
        state.down = state.sort === name ? !state.down : column.score;
        state.sort = name;
        draw();
        byId("trials").querySelector(`th:nth-child(${names().indexOf(name) + 1}) button`).focus();
      });
      cell.append(button);
      line.append(cell);
    }
    byId("trials").tHead.replaceChildren(line);
  }

  function drawRows() {
    const lines = document.createDocumentFragment();
    const status = place.get("status");
    for (const row of state.rows.slice(0, state.shown)) {
      const line = document.createElement("tr");
      if (status !== undefined) line.className = BAD.has(row[status]) ? "bad" : row[status];
      for (const name of names()) {
        const index = place.get(name);
        const cell = document.createElement("td");
        const text = write(row[index], table.columns[index]);
        cell.textContent = text;
        cell.className = table.columns[index].number ? "number" : text.length > 30 ? "long" : "";
        if (text.length > 30) cell.title = text;
        line.append(cell);
      }
      lines.append(line);
    }
    byId("trials").tBodies[0].replaceChildren(lines);
    const left = state.rows.length - state.shown;
    byId("more").hidden = left <= 0;
    byId("more").textContent = `show ${Math.min(left, 4 * STEP)} more of ${left}`;
  }

  function draw() {
    filterAndSort();
    drawHead();
    drawRows();
  }

  byId("filter").addEventListener("input", () => { state.shown = STEP; filterAndSort(); drawRows(); });
  byId("more").addEventListener("click", () => { state.shown += 4 * STEP; drawRows(); });
  byId("trials").tBodies[0].addEventListener("click", (event) => event.target.classList.contains("long") && event.target.classList.toggle("open"));
  byId("all-columns").addEventListener("click", (event) => {
    state.all = !state.all;
    event.target.setAttribute("aria-pressed", String(state.all));
    drawHead();
    drawRows();
  });
  const same = Object.entries(table.same);
  byId("same").parentElement.hidden = same.length === 0;
  byId("same").textContent = same.map(([name, value]) => `${name} ${value === "" ? "none" : value}`).join(", ");
  draw();

  // The charts: each is drawn when it comes into view, in the colours of the page.
  const plots = read("plots");
  const drawn = new Set();

  function themed(layout) {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(name).trim();
    const narrow = window.innerWidth < 600;
    const made = structuredClone(layout);
    Object.assign(made, { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true });
    made.font = { ...made.font, color: color("--text"), family: "system-ui, sans-serif", size: narrow ? 11 : 13 };
    made.hoverlabel = { bgcolor: color("--card"), bordercolor: color("--line"), font: { color: color("--text") }, align: "left" };
    for (const name of Object.keys(made)) {
      if (/^[xy]axis\d*$/.test(name)) {
        Object.assign(made[name], { gridcolor: color("--line"), zerolinecolor: color("--line"), linecolor: color("--line"), automargin: true });
      }
    }
    for (const name of ["xaxis", "yaxis"]) made[name] ??= {};
    if (narrow && made.margin) made.margin = { ...made.margin, l: Math.min(made.margin.l ?? 48, 48), r: Math.min(made.margin.r ?? 10, 10) };
    return made;
  }

  function drawPlot(element) {
    const plot = plots[element.dataset.plot];
    const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] };
    window.Plotly.react(element, plot.data, themed(plot.layout), config);
    drawn.add(element);
  }

  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting && !drawn.has(entry.target)) drawPlot(entry.target);
    }
  }, { rootMargin: "300px" });
  const places = document.querySelectorAll(".plot");
  places.forEach((element) => watcher.observe(element));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach(drawPlot));
  window.addEventListener("beforeprint", () => places.forEach((element) => drawn.has(element) || drawPlot(element)));
  document.documentElement.dataset.ready = "yes";
})();
