// What a visitor sees first: the chart of systems, how each was made to follow instructions, their answers side by side.

const WAYS = [
  ["base", "Untuned", "The pretrained model, only shown the chat format."],
  ["rules", "Three rules", "Untuned; three hand-written rules change the probabilities of a few tokens while it answers."],
  ["single_task", "One narrow task", "Tuned on one task only, such as school maths, and asked everything."],
  ["response", "Responses only", "Tuned on answers whose instructions were left out."],
  ["instruction", "Instructions", "Tuned on instructions with their answers, the usual way: what the others are compared to."],
];

const measured = (score) => score && score.value !== null;
const drawn = (board) => board.rows.filter((row) => row.kind !== "control" && (measured(row.attempt_rate) || measured(row.win_rate)));

// A bar from 0 to 100 with its interval; its numbers stand beside it as text.
function bar(score, kind) {
  if (!measured(score)) return el("span", { class: "quiet" }, "–");
  const parts = [svg("rect", { class: "ground", x: 0, y: 3, width: 100, height: 10 })];
  parts.push(svg("rect", { class: "fill", x: 0, y: 3, width: score.value, height: 10 }));
  const picture = svg(
    "svg",
    { class: `meter kind-${kind}`, viewBox: "0 0 100 16", preserveAspectRatio: "none", "aria-hidden": "true" },
    ...parts,
  );
  if (score.low !== null) {
    const line = (style, x1, x2, y1, y2) =>
      svg("line", { class: style, x1, x2, y1, y2, "vector-effect": "non-scaling-stroke" });
    for (const style of ["halo", "interval"]) {
      picture.append(
        line(style, score.low, score.high, 8, 8),
        line(style, score.low, score.low, 4, 12),
        line(style, score.high, score.high, 4, 12),
      );
    }
  }
  return el("span", { class: "measure" }, picture, el("b", {}, score.shown), el("small", {}, score.ends));
}

function chart(board) {
  const rows = drawn(board);
  if (!rows.length) return [];
  const attempts = rows.some((row) => measured(row.attempt_rate));
  const paper = rows.some((row) => row.paper);
  const wins = rows.some((row) => measured(row.win_rate));
  const head = [
    "system",
    ...(attempts ? ["attempts what is asked, %"] : []),
    ...(wins ? ["wins against the reference, %"] : []),
    ...(paper ? [`paper: LC win rate, %`] : []),
  ];
  const order = Object.keys(data.kinds);
  const body = [...rows]
    .sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind))
    .map((row) =>
      el(
        "tr",
        {},
        el("th", { scope: "row" }, nameOf(row, row.label.replace(" (the reference)", ""))),
        attempts ? el("td", {}, bar(row.attempt_rate, row.kind)) : null,
        !wins ? null : el("td", {}, row.reference ? el("span", { class: "quiet" }, "the reference") : bar(row.win_rate, row.kind)),
        paper ? el("td", { class: "number paper" }, row.paper ?? "") : null,
      ),
    );
  const table = el(
    "table",
    { class: "chart" },
    el("caption", {}, caption(board, rows, attempts)),
    el("thead", {}, el("tr", {}, ...head.map((text) => el("th", { scope: "col" }, text)))),
    el("tbody", {}, ...body),
  );
  const published = data.boards.find((other) => other.published);
  return [
    el("div", { class: "chartbox" }, table),
    el(
      "p",
      { class: "quiet" },
      "Bars with intervals. An attempt tries to do what is asked and may be wrong; a win is a judge’s preference over the reference’s answer.",
      paper
        ? ` Last column: ${board.paper}, as published; other models, instructions and judge, so compare the order and not the numbers. `
        : " ",
      paper && published ? el("a", { href: `#/board/${published.slug}` }, "All published numbers") : "",
    ),
  ];
}

const nameOf = (row, label = row.label) =>
  row.members.length ? el("a", { href: toSubmission(row.members[0]) }, label) : label;

function caption(board, rows, attempts) {
  const models = new Set(rows.map((row) => row.base));
  const wins = rows.some((row) => measured(row.win_rate));
  const what = [attempts && "attempt rate", wins && "win rate"].filter(Boolean).join(" and ");
  return `${what[0].toUpperCase()}${what.slice(1)}${models.size === 1 && rows[0].base ? ` of ${[...models][0]}` : ""} on ${board.n} instructions`;
}

// The four ways, one sentence each, of those that this board has.
function ways(board) {
  const kinds = new Set(drawn(board).map((row) => row.kind));
  const here = WAYS.filter(([kind]) => kinds.has(kind));
  if (here.length < 3) return "";
  return el(
    "dl",
    { class: "ways" },
    ...here.flatMap(([kind, name, sentence]) => [el("dt", {}, el("i", { class: `dot kind-${kind}` }), name), el("dd", {}, sentence)]),
  );
}

function warnings(board) {
  const [first, ...more] = board.warnings;
  if (!first) return "";
  return el(
    "details",
    { class: "mind" },
    el("summary", {}, `Before you quote a number: ${first}${more.length ? ` And ${plural(more.length, "more note")}.` : ""}`),
    el("ul", {}, ...more.map((text) => el("li", {}, text))),
  );
}

// What needs more words than a column's note.
const MEANING = {
  seeds: "Trainings of the system with different random seeds; their numbers are averaged, and ± is their standard deviation.",
  attempt_rate:
    "Answers that try to do what is asked; they may be wrong. Decided of each answer alone, without a reference, so it says something even where all answers are bad.",
  win_rate:
    "How often the judge prefers the answer to the reference’s; 50 is as good as the reference. Each pair is judged in both orders where the judge sees both answers.",
  lc: "The win rate if both answers were equally long, estimated from how the verdicts depend on length.",
  n: "Instructions that were judged.",
  badge: "What was checked, below.",
  tie_group: "Systems of one group do not differ significantly from the best of it. The reference is not compared with itself.",
};
const LEGEND = [
  ["brackets", "An interval, the line on a bar: what the number could be with other instructions of the same kind."],
  [
    "control",
    "Answers that are worthless by construction: empty, an echo, another instruction’s answer. A system that does not beat them shows nothing.",
  ],
];

function explained(board) {
  const here = ([name]) => name !== "control" || board.rows.some((row) => row.kind === "control");
  const notes = COLUMNS.map(({ name, label, note }) => [label, MEANING[name] ?? note]).filter(([, note]) => note);
  const badges = Object.entries(data.badges ?? {});
  const signatures = board.signatures ?? [board.attempts_signature, board.signature, board.lc_signature].filter(Boolean);
  const list = (pairs) => el("dl", {}, ...pairs.flatMap(([name, what]) => [el("dt", {}, name), el("dd", {}, what)]));
  return el(
    "details",
    { class: "explained" },
    el("summary", {}, "What the columns mean, and the signatures of the numbers"),
    list([...notes, ...LEGEND.filter(here)]),
    badges.length ? el("h3", {}, "Badges: what was checked") : "",
    badges.length ? list(badges) : "",
    el("h3", {}, "Signatures"),
    el("p", {}, "A number means something only together with these settings; numbers under other signatures do not compare."),
    ...signatures.map((text) => el("p", { class: "signature" }, el("code", {}, text))),
  );
}

// ---- the same instructions, answered by each system

const CLIP = 420;

function gallery(board) {
  if (!board.gallery?.length) return "";
  const cards = (entry) =>
    entry.answers.map(([at, text, tries, forms]) => {
      const row = board.rows[at];
      const told = [tries === null ? null : tries ? "attempt" : "no attempt", ...forms].filter(Boolean).join(", ");
      return el(
        "div",
        { class: `card kind-${row.kind}` },
        el("h4", {}, nameOf(row), told ? ` (${told})` : ""),
        ...long(text, CLIP),
      );
    });
  return el(
    "section",
    { class: "gallery", "aria-label": "Gallery" },
    el("h2", {}, "The same instructions, answered by each"),
    el("p", { class: "quiet" }, `The first ${board.gallery.length} of the set, unpicked. Choose a system’s name for all its answers.`),
    ...board.gallery.map((entry) =>
      el(
        "section",
        {},
        el("h3", {}, entry.instruction === null ? `instruction ${entry.id}` : visible(entry.instruction)),
        region(`Answers to: ${(entry.instruction ?? entry.id).slice(0, 80)}`, el("div", { class: "cards" }, ...cards(entry))),
      ),
    ),
  );
}

// ---- by category

function categories(board) {
  const found = board.categories;
  if (!found) return "";
  const rows = drawn(board).filter((row) => row.by_category);
  if (!rows.length) return "";
  const measures = [
    ["attempts", "attempts"],
    ["wins", "win rate, %"],
  ].filter(([name]) => rows.some((row) => row.by_category[name]));
  const body = el("tbody");
  const fill = (name) =>
    body.replaceChildren(
      ...rows.map((row) =>
        el(
          "tr",
          {},
          el("th", { scope: "row" }, nameOf(row)),
          ...found.map(([, n], i) => {
            const value = row.reference && name === "wins" ? null : row.by_category[name]?.[i];
            if (value === null || value === undefined) return el("td", { class: "number" }, "–");
            const share = name === "attempts" ? value / n : value / 100;
            return el(
              "td",
              { class: "number" },
              svg(
                "svg",
                { class: "share", viewBox: "0 0 100 4", preserveAspectRatio: "none", "aria-hidden": "true" },
                svg("rect", { class: "ground", width: 100, height: 4 }),
                svg("rect", { class: "fill", width: 100 * share, height: 4 }),
              ),
              name === "attempts" ? `${value} of ${n}` : `${value}`,
            );
          }),
        ),
      ),
    );
  const choice = select("Measure", measures, (event) => fill(event.target.value));
  fill(measures[0][0]);
  return el(
    "section",
    { class: "categories", "aria-label": "By category" },
    el("h2", {}, "By category of instruction"),
    measures.length > 1 ? el("div", { class: "bar" }, choice.label) : "",
    region(
      "Table of categories",
      el(
        "table",
        {},
        el(
          "thead",
          {},
          el("tr", {}, el("th", { scope: "col" }, "system"), ...found.map(([name, n]) => el("th", { scope: "col", class: "number" }, `${name} (${n})`))),
        ),
        body,
      ),
    ),
    el("p", { class: "quiet" }, "Few instructions a category: read these as hints and not as rankings. Win rates here have no interval."),
  );
}

// ---- win rate against length

function lengths(board) {
  const rows = board.rows.filter((row) => measured(row.win_rate) && row.avg_length !== null);
  if (rows.length < 2) return "";
  const most = Math.max(...rows.map((row) => row.avg_length), 1);
  const [width, height, left, top] = [640, 260, 46, 10];
  const x = (value) => left + ((width - left - 16) * value) / most;
  const y = (value) => top + (height - top - 40) * (1 - value / 100);
  const words = (text, attributes) => {
    const node = svg("text", attributes);
    node.textContent = text;
    return node;
  };
  const parts = [];
  for (const tick of [0, 25, 50, 75, 100]) {
    parts.push(svg("line", { class: tick === 50 ? "half" : "axis", x1: left, x2: width - 16, y1: y(tick), y2: y(tick) }));
    parts.push(words(`${tick}`, { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }));
  }
  parts.push(words("0", { x: left, y: height - 22, "text-anchor": "middle" }));
  parts.push(words(`${Math.round(most)}`, { x: width - 16, y: height - 22, "text-anchor": "end" }));
  parts.push(words("mean characters of an answer", { x: width / 2, y: height - 4, "text-anchor": "middle" }));
  const named = []; // places of names that are there: left end, right end, middle
  const place = (at, width) => {
    let middle = at.y;
    while (named.some(([from, to, y]) => from < at.x + width && at.x < to && Math.abs(y - middle) < 13)) middle -= 13;
    named.push([at.x, at.x + width, middle]);
    return middle;
  };
  for (const row of [...rows].sort((a, b) => (a.kind === "control" ? 0 : 1) - (b.kind === "control" ? 0 : 1))) {
    const score = row.win_rate;
    const [px, py] = [x(row.avg_length), y(score.value)];
    const group = svg("g", { class: `point kind-${row.kind}` });
    if (score.low !== null) group.append(svg("line", { class: "span", x1: px, x2: px, y1: y(score.low), y2: y(score.high) }));
    group.append(svg("circle", { cx: px, cy: py, r: 4.5 }));
    if (row.kind !== "control") {
      const width = 6.5 * row.label.length;
      const left = px + 9 + width > 640 ? px - 9 - width : px + 9;
      group.append(words(row.label, { x: left, y: place({ x: left, y: py + 4 }, width) }));
    }
    parts.push(group);
  }
  const label = "Win rate in percent against the mean length of answers; the table has the same numbers";
  return el(
    "section",
    { class: "lengths", "aria-label": "Win rate against length" },
    el("h2", {}, "Do longer answers win?"),
    region(label, svg("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, ...parts)),
    el("p", { class: "quiet" }, "Win rate, % (with intervals), against length. Hollow: controls."),
  );
}
