// The table of a board: sorted, filtered, with its intervals drawn.

function interval(score) {
  const x = (value) => 2 + value * 1.2;
  const parts = [
    svg("line", { class: "axis", x1: 2, x2: 122, y1: 8, y2: 8 }),
    svg("line", { class: "half", x1: 62, x2: 62, y1: 1, y2: 15 }),
  ];
  if (score.low !== null) {
    parts.push(
      svg("path", {
        class: "interval",
        fill: "none",
        d: `M${x(score.low)} 8H${x(score.high)}M${x(score.low)} 4v8M${x(score.high)} 4v8`,
      }),
    );
  }
  parts.push(svg("circle", { class: "value", cx: x(score.value), cy: 8, r: 3.5, "stroke-width": 1.5 }));
  return svg("svg", { width: 124, height: 16, "aria-hidden": "true" }, ...parts);
}

function scoreCell(score) {
  if (!score || score.value === null) return el("td", { class: "number" }, "–");
  return el("td", { class: "number" }, `${score.shown} `, el("small", {}, score.ends), interval(score));
}

const badgeCell = (row) => el("td", {}, el("span", { class: `badge ${row.badge}` }, row.badge));
const judged = (row) => (row.n_judged === row.n ? `${row.n}` : `${row.n_judged} of ${row.n}`);
// How a column is sorted and shown: by its name where that needs more than a value, else by its kind.
const BY_NAME = {
  system: [(row) => row.label.toLowerCase(), systemCell],
  seeds: [(row) => row.members.length, (row) => el("td", {}, `${row.members.length}`)],
  n: [(row) => row.n_judged, (row) => el("td", { class: "number" }, judged(row))],
  badge: [(row) => row.badge, badgeCell],
};
const BY_KIND = {
  score: ({ name }) => [(row) => row[name] && row[name].value, (row) => scoreCell(row[name])],
  form: ({ name }) => [(row) => row[name], (row) => el("td", { class: "number" }, row.shown[name])],
  count: ({ name }) => [(row) => row[name], (row) => el("td", { class: "number" }, `${row[name] ?? "–"}`)],
};
const COLUMNS = data.columns.filter((column) => !data.without?.includes(column.name)).map((column) => {
  const [key, cell] = BY_NAME[column.name] ?? BY_KIND[column.kind](column);
  return { ...column, key, cell };
});

function systemCell(row) {
  return el(
    "th",
    { scope: "row" },
    nameOf(row),
    row.name ? el("div", {}, row.name) : null,
    row.base ? el("div", {}, row.base) : null,
  );
}

const toSubmission = (member, answer) => `#/submission/${encodeURIComponent(member.id)}${answer ? `/${answer}` : ""}`;
const boardView = { sort: COLUMNS.findIndex((column) => column.name === "win_rate"), down: true, text: "", base: "", kind: "", badge: "", controls: true };

function compare(a, b) {
  const { key } = COLUMNS[boardView.sort],
    [x, y] = [key(a), key(b)];
  if (x === y) return 0;
  if (x === null) return 1; // what has no value is last, whichever way the table is sorted
  if (y === null) return -1;
  return (x < y ? -1 : 1) * (boardView.down ? -1 : 1);
}

function matches(row) {
  const words = boardView.text.toLowerCase().split(/\s+/).filter(Boolean);
  const text = `${row.label} ${row.name} ${row.base}`.toLowerCase();
  return (
    words.every((word) => text.includes(word)) &&
    (!boardView.base || row.base === boardView.base) &&
    (!boardView.kind || row.kind === boardView.kind) &&
    (!boardView.badge || row.badge === boardView.badge) &&
    (boardView.controls || row.kind !== "control")
  );
}

function boardTable(board) {
  const body = el("tbody"),
    count = el("p", { class: "quiet", role: "status" });
  const heads = COLUMNS.map(({ name, label, kind }, i) =>
    el(
      "th",
      { scope: "col", class: kind === "text" ? null : "number" },
      el(
        "button",
        {
          type: "button",
          onclick: () => {
            boardView.down = boardView.sort === i ? !boardView.down : i !== 0 && name !== "tie_group";
            boardView.sort = i;
            fill();
          },
        },
        label,
      ),
    ),
  );
  function fill() {
    const rows = board.rows.filter(matches).sort(compare);
    body.replaceChildren(
      ...rows.map((row) =>
        el(
          "tr",
          {
            class: row.kind === "control" ? "opens control" : "opens",
            onclick: (event) => {
              if (row.members.length && !event.target.closest("a")) location.hash = toSubmission(row.members[0]);
            },
          },
          ...COLUMNS.map(({ cell }) => cell(row)),
        ),
      ),
    );
    heads.forEach((head, i) => {
      if (i === boardView.sort) head.setAttribute("aria-sort", boardView.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    count.textContent = `${rows.length} of ${plural(board.rows.length, "system")}`;
  }
  fill();
  const table = el("table", {}, el("thead", {}, el("tr", {}, ...heads)), body);
  return {
    fill,
    nodes: [
      count,
      el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of systems" }, table),
    ],
  };
}

const title = (board) =>
  board.published
    ? `Published, not made here: ${board.title}`
    : `${board.set} (n ${board.n})${board.reference ? ` against ${board.reference}` : ""}${board.judge ? `, judged by ${board.judge}` : ""}${board.rules ? ": rule ablation" : ""}`;

function showBoard(slug) {
  const index = Math.max(
      0,
      data.boards.findIndex((board) => board.slug === slug),
    ),
    board = data.boards[index];
  if (!board) {
    main.replaceChildren(el("p", {}, "No submissions yet."));
    return;
  }
  const picker = select(
    "Board",
    data.boards.map((b, i) => [i, title(b)]),
    (event) => {
      location.hash = `#/board/${data.boards[event.target.value].slug}`;
    },
  );
  picker.control.value = `${index}`;
  picker.label.className = "wide";
  const top = el("div", { class: "bar" }, picker.label);
  if (board.published) {
    main.replaceChildren(top, el("h2", { class: "hidden" }, title(board)), ...publishedTable(board));
    return;
  }
  const table = boardTable(board),
    changed =
      (name, field = "value") =>
      (event) => {
        boardView[name] = event.target[field];
        table.fill();
      };
  const all = (name) => [...new Set(board.rows.map((row) => row[name]))].sort();
  const find = search("Search systems", changed("text"));
  find.control.value = boardView.text;
  const base = select("Base model", [["", "all"], ...all("base").map((v) => [v, v])], changed("base"));
  const kind = select(
    "Kind",
    [["", "all"], ...Object.entries(data.kinds).filter(([k]) => all("kind").includes(k))],
    changed("kind"),
  );
  const badge = select("Badge", [["", "all"], ...all("badge").map((v) => [v, v])], changed("badge"));
  badge.label.hidden = all("badge").length < 2;
  base.label.hidden = all("base").length < 2;
  for (const [name, choice] of [
    ["base", base],
    ["kind", kind],
    ["badge", badge],
  ]) {
    choice.control.value = boardView[name];
    if (choice.control.value !== boardView[name]) choice.control.value = boardView[name] = "";
  }
  const controls = el("input", { type: "checkbox", onchange: changed("controls", "checked") });
  controls.checked = boardView.controls;
  const check = el("label", { class: "check" }, controls, "control rows");
  check.hidden = !all("kind").includes("control");
  table.fill();
  main.replaceChildren(
    el("h2", { class: "hidden" }, title(board)),
    ...(board.rules ? [] : chart(board)),
    board.rules ? "" : ways(board),
    warnings(board),
    gallery(board),
    el("h2", {}, board.rules ? "What each rule does" : "All systems"),
    data.boards.length > 1 ? top : "",
    el(
      "div",
      { class: "bar" },
      find.label,
      filters(base.label, kind.label, badge.label, check),
    ),
    ...table.nodes,
    explained(board),
    lengths(board),
    categories(board),
  );
}

function publishedTable(board) {
  const head = ["base model", "system", board.metric, "from"].map((name) => el("th", { scope: "col" }, name));
  const rows = board.rows.map((row) =>
    el(
      "tr",
      {},
      el("td", {}, row.base_model),
      el("td", {}, row.system),
      el("td", { class: "number" }, row.shown),
      el("td", {}, row.table),
    ),
  );
  return [
    el(
      "p",
      { class: "mind" },
      "Note: these numbers were published elsewhere, were not recomputed, and do not compare with any other table.",
    ),
    el(
      "p",
      {},
      `${board.authors}. Instructions: ${board.instruction_set}. Reference: ${board.reference}. Judge: ${board.judge}. ${board.note}`,
    ),
    el("p", {}, link(board.url)),
    el(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Published numbers" },
      el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows)),
    ),
  ];
}

const link = (url) =>
  url.startsWith("https://") ? el("a", { href: url, rel: "noopener noreferrer nofollow" }, url) : url;
