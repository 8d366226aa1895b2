// The filters of the page of a suite. Everything that they show is in the page already.
(() => {
  const symbols = { g: ["good", "✓"], l: ["warn", "◐"], b: ["bad", "✕"], m: ["plain", "·"] };
  const words = { g: "gets in at once", l: "gets in late", b: "does not get in" };
  const cells = new Map();
  for (const element of document.querySelectorAll("details.cell")) {
    const [square, values, outcome] = element.firstChild.childNodes;
    cells.set(element.id, {
      element, classes: element.dataset.k, wrong: "wrong" in element.dataset, differs: "differs" in element.dataset, cause: element.dataset.cause,
      values: values.nodeValue.replace(/: $/, " "), text: values.nodeValue + outcome.textContent, rule: element.closest(".rule").dataset.rule,
      family: element.closest(".family").dataset.family, squares: [square],
    });
  }
  for (const square of document.querySelectorAll(".grid a.q")) {
    cells.get(square.hash.slice(1))?.squares.push(square);
    square.ariaLabel = square.title; // which a symbol alone does not say
  }

  // One stop for the keyboard in each grid; arrows go on from there.
  for (const grid of document.querySelectorAll(".grid")) {
    const squares = [...grid.querySelectorAll("a.q")];
    squares.forEach((square, i) => { square.tabIndex = i === 0 ? 0 : -1; });
    grid.addEventListener("keydown", event => {
      const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1 }[event.key];
      const shown = squares.filter(square => !square.hidden);
      const next = shown[shown.indexOf(document.activeElement) + (step ?? 0)];
      if (!step || !next) return;
      event.preventDefault();
      for (const square of squares) square.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
  }

  const filter = document.getElementById("filter");
  if (!filter) return;
  let painted = 0;
  const paint = kernel => {
    if (kernel === painted) return;
    painted = kernel;
    for (const cell of cells.values()) {
      const [name, symbol] = symbols[cell.classes[kernel]] ?? ["none", "–"];
      for (const square of cell.squares) {
        square.className = "q " + (cell.wrong ? "wrong" : name) + (cell.differs ? " differs" : "");
        square.textContent = cell.wrong ? "!" : symbol;
      }
    }
  };
  // A family that is chosen has a choice for each of its axes.
  const axes = document.getElementById("axes");
  const offer = family => {
    if (axes.dataset.family === family) return;
    axes.dataset.family = family;
    axes.textContent = "";
    for (const values of document.querySelectorAll(`.family[data-family="${CSS.escape(family)}"] .axes dd`)) {
      const label = axes.appendChild(document.createElement("label"));
      label.textContent = values.previousElementSibling.textContent + " ";
      const select = label.appendChild(document.createElement("select"));
      select.dataset.axis = values.previousElementSibling.textContent;
      select.append(new Option("any", ""), ...values.dataset.values.trim().split(" ").map(value => new Option(value)));
    }
  };
  const apply = () => {
    const want = Object.fromEntries(new FormData(filter));
    offer(want.family ?? "");
    const chosen = [...axes.querySelectorAll("select")].filter(select => select.value).map(select => ` ${select.dataset.axis}=${select.value} `);
    const kernel = Number(want.kernel ?? 0);
    paint(kernel);
    const parts = (want.words ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const cell of cells.values()) {
      const letter = cell.classes[kernel];
      const right = letter !== "-" && (!want.family || cell.family === want.family) && (!want.rule || cell.rule === want.rule) &&
        (!want.cause || cell.cause === want.cause) && chosen.every(value => cell.values.includes(value)) &&
        (!want.class || (want.class === "!" ? cell.wrong : want.class === "=" ? cell.differs : letter === want.class)) &&
        parts.every(part => cell.text.toLowerCase().includes(" " + part));
      cell.element.hidden = !right;
      for (const square of cell.squares.slice(1)) square.hidden = !right;
      if (right) shown++;
    }
    for (const rule of document.querySelectorAll(".rule")) rule.hidden = !rule.querySelector(".cell:not([hidden])");
    for (const row of document.querySelectorAll(".gridrow")) row.hidden = !row.querySelector("a.q:not([hidden])");
    for (const family of document.querySelectorAll(".family")) family.hidden = !family.querySelector("a.q:not([hidden])");
    document.getElementById("shown").textContent = `${shown} of ${cells.size} cells`;
  };
  filter.hidden = false;
  filter.addEventListener("input", apply);
  filter.addEventListener("reset", () => setTimeout(apply));
  filter.addEventListener("submit", event => event.preventDefault());
  document.getElementById("shown").textContent = `${cells.size} of ${cells.size} cells`;
  // A link to a cell that is filtered away shows all again.
  addEventListener("hashchange", () => {
    if (cells.get(location.hash.slice(1))?.element.hidden) { filter.reset(); }
  });

  const pick = document.getElementById("pick");
  if (!pick) return;
  const data = JSON.parse(document.getElementById("picks").textContent);
  const knobs = [...pick.querySelectorAll("[data-knob]")];
  const add = (parent, tag, text, name) => {
    const element = parent.appendChild(document.createElement(tag));
    if (text) element.textContent = text;
    if (name) element.className = name;
    return element;
  };
  const rank = "mglb";
  const ones = data.cells.map((one, i) => {
    const cell = cells.get(one.id), values = new Map();
    for (const word of cell.values.trim().split(" ")) values.set(word.slice(0, word.indexOf("=")), word.slice(word.indexOf("=") + 1));
    const axisOf = data.knobs[cell.family];
    return { ...one, i, cell, values, axisOf, value: knob => axisOf[knob] && values.get(axisOf[knob]) };
  });
  // The cells that are the same as this one but for a sysctl have the same key.
  const key = (one, knob) => [one.cell.family, ...[...one.values].filter(([axis]) => axis !== one.axisOf[knob]).map(([, value]) => value)].join("|");
  const listed = (parent, letter, ids, open) => {
    const list = add(parent, "details");
    list.open = open;
    add(list, "summary", `${symbols[letter][1]} ${words[letter]}: ${ids.length} cells`);
    const items = add(list, "ul", "", "small");
    for (const id of ids.slice(0, 40)) add(add(items, "li"), "a", cells.get(id).family + cells.get(id).text).href = "#" + id;
    if (ids.length > 40) add(list, "p", `and ${ids.length - 40} more`, "small soft");
  };
  const compared = (box, knob, letterOf, fits) => {
    const usual = new Map(), count = { better: [], same: [], worse: [] };
    for (const one of ones) if (one.value(knob.dataset.knob) === knob.dataset.default) usual.set(key(one, knob.dataset.knob), letterOf(one));
    for (const one of ones) {
      if (one.value(knob.dataset.knob) !== knob.value || !fits(one)) continue;
      const was = rank.indexOf(usual.get(key(one, knob.dataset.knob))), is = rank.indexOf(letterOf(one));
      if (was < 0 || is < 0) continue;
      count[is < was ? "better" : is > was ? "worse" : "same"].push(one.id);
    }
    const { better, same, worse } = count;
    const says = worse.length ? (better.length ? "helps some, and harms others" : "harms") : better.length ? "helps; no harm seen" : same.length ? "no difference seen" : "not tried like this";
    add(box, "p", `${knob.labels[0].firstChild.textContent.trim()}=${knob.value}: ${says}.`, "who");
    const line = add(box, "p", "");
    add(line, "span", `Compared with ${knob.dataset.default}: better in ${better.length} cells, the same in ${same.length}, worse in ${worse.length}.`);
    for (const [name, ids] of [["better", better], ["worse", worse]]) {
      if (ids.length) add(add(line, "span", " "), "a", `One that is ${name}`).href = "#" + ids[0];
    }
  };
  const answer = () => {
    const client = pick.elements.client.value, balancer = pick.elements.balancer.value, way = pick.elements.way.value;
    const chosen = knobs.filter(knob => knob.value !== "");
    const predicted = client !== balancer && data.pairs[`${client},${balancer}`];
    const letterOf = one => predicted ? predicted[one.i] : one.cell.classes[client];
    // A cell of which nothing was picked says nothing of what was picked.
    const fits = one => !(way && one.way && one.way !== way) &&
      chosen.every(knob => one.value(knob.dataset.knob) === undefined || one.value(knob.dataset.knob) === knob.value) &&
      (!chosen.length || chosen.some(knob => one.value(knob.dataset.knob) !== undefined));
    const by = { b: [], l: [], g: [] };
    for (const one of ones) if (fits(one)) by[letterOf(one)]?.push(one.id);
    const out = document.getElementById("picked");
    out.textContent = "";
    const all = by.b.length + by.l.length + by.g.length;
    const worst = by.b.length ? "b" : by.l.length ? "l" : by.g.length ? "g" : "";
    const box = add(out, "div", "", "answer " + ({ g: "good", l: "warn" }[worst] ?? ""));
    const compare = chosen.filter(knob => knob.value !== knob.dataset.default);
    for (const knob of compare) compared(box, knob, letterOf, fits);
    add(box, "p", worst ? `The worst outcome of all ${all} cells that apply: ${words[worst]}, in ${by[worst].length}.` : "No cell has this combination.", compare.length ? "" : "who");
    if (predicted) add(box, "p", "No run had these two kernels together: this is what the rules say, with the balancer's kernel on gateways and servers, too.", "small soft");
    for (const letter of "blg") if (by[letter].length) listed(out, letter, by[letter], false);
  };
  pick.hidden = false;
  pick.addEventListener("input", answer);
  pick.addEventListener("submit", event => event.preventDefault());
})();
