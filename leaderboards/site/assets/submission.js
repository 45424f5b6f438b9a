// One submission: its answers beside the reference's.

async function showSubmission(id) {
  const found = data.boards
    .flatMap((board) => (board.published ? [] : board.rows.map((row) => ({ board, row }))))
    .find(({ row }) => row.members.some((member) => member.id === id));
  if (!found) return showBoard();
  const { board, row } = found,
    member = row.members.find((m) => m.id === id);
  const status = el("p", { role: "status" }, "Loading the answers …");
  const head = el("h2", { tabindex: "-1" }, `${row.label}: ${row.name}`);
  const seeds =
    row.members.length < 2
      ? null
      : el(
          "p",
          {},
          `${plural(row.members.length, "seed")}: `,
          ...row.members.flatMap((m) => [
            el("a", { href: toSubmission(m), "aria-current": m === member && "page" }, m.revision),
            " ",
          ]),
        );
  main.replaceChildren(
    el("a", { class: "back", href: `#/board/${board.slug}` }, "← All systems"),
    el("div", { class: "head" }, head, el("span", { class: `badge ${row.badge}` }, row.badge)),
    el(
      "p",
      { class: "quiet" },
      `revision ${member.revision}, ${row.base}, against ${board.reference}, judged by ${board.judge}`,
    ),
    seeds ?? "",
    status,
  );
  head.focus({ preventScroll: true });
  window.scrollTo(0, 0);
  try {
    const own = await payload(member.key);
    if (location.hash !== toSubmission(member)) return; // the reader has gone on
    const pairing = own.pairing ? await payload(own.pairing) : null;
    if (location.hash !== toSubmission(member)) return;
    status.replaceWith(
      facts(own),
      ...(pairing
        ? answers(own, pairing, board, row)
        : [el("p", {}, "This submission reports scores only: there are no answers to read.")]),
    );
  } catch (error) {
    status.replaceChildren(`The answers cannot be shown: ${error.message}`);
  }
}

function facts(own) {
  const list = el("dl");
  for (const [name, value] of own.facts) {
    const texts = Array.isArray(value) ? value : [value];
    list.append(
      el("dt", {}, visible(name)),
      el("dd", {}, ...texts.flatMap((text, i) => [i ? el("br") : "", link(visible(text))])),
    );
  }
  return el(
    "details",
    { open: !own.pairing },
    el("summary", {}, "How it was made, and its scores with signatures"),
    list,
  );
}

const outcome = (preference) => (preference > 0.5 ? "win" : preference < 0.5 ? "loss" : "draw");

const tries = (item) => item.attempt >= 0.5;
const WANTED = { split: (item) => item.split, attempt: tries, none: (item) => !tries(item) };

function answers(own, pairing, board, row) {
  const items = pairing.ids.map((id, i) => ({
    i,
    id,
    question: pairing.texts[i],
    category: pairing.categories[i],
    system: own.outputs[i],
    reference: pairing.outputs[i],
    ended: own.finish[i],
    tokens: own.tokens[i],
    preference: own.preferences[i],
    attempt: own.attempts ? own.attempts[i] : null,
    orders: Object.entries(own.orders).map(([order, values]) => [order, values[i]]),
  }));
  for (const item of items) {
    item.low = `${item.question ?? item.id}\n${item.system}\n${item.reference}`.toLowerCase();
    item.split = new Set(item.orders.map(([, p]) => outcome(p))).size > 1;
  }
  const tally = (what) => items.filter((item) => outcome(item.preference) === what).length;
  const categories = [...new Set(items.map((item) => item.category).filter(Boolean))].sort();
  const refill = () => {
    shown = STEP;
    fill();
  };
  const find = search("Search instructions and answers", refill);
  const category = select("Category", [["", "all"], ...categories.map((c) => [c, c])], refill);
  const result = select(
    "Outcome",
    [
      ["", `all (${items.length})`],
      ["win", `wins (${tally("win")})`],
      ["loss", `losses (${tally("loss")})`],
      ["draw", `draws (${tally("draw")})`],
      ["split", `orders disagree (${items.filter((item) => item.split).length})`],
      ...(own.attempts
        ? [
            ["attempt", `attempts (${items.filter(tries).length})`],
            ["none", `no attempts (${items.filter((item) => !tries(item)).length})`],
          ]
        : []),
    ],
    refill,
  );
  const sort = select(
    "Sort",
    [
      ["i", "by instruction id"],
      ["best", "best verdicts first"],
      ["worst", "worst verdicts first"],
      ["long", "longest answers first"],
    ],
    refill,
  );
  const list = el("ol", { class: "answers" }),
    count = el("p", { class: "quiet", role: "status" });
  const more = el(
    "button",
    {
      type: "button",
      onclick: () => {
        shown += STEP;
        fill(true);
      },
    },
    `Show ${STEP} more`,
  );
  let shown = STEP;
  const ORDER = {
    i: (a, b) => a.i - b.i,
    best: (a, b) => b.preference - a.preference || a.i - b.i,
    worst: (a, b) => a.preference - b.preference || a.i - b.i,
    long: (a, b) => b.system.length - a.system.length || a.i - b.i,
  };
  function fill(goOn = false) {
    const words = find.control.value.toLowerCase().split(/\s+/).filter(Boolean),
      wanted = result.control.value;
    const rows = items
      .filter(
        (item) =>
          words.every((word) => item.low.includes(word)) &&
          (!category.control.value || item.category === category.control.value) &&
          (!wanted || (WANTED[wanted]?.(item) ?? outcome(item.preference) === wanted)),
      )
      .sort(ORDER[sort.control.value]);
    const before = goOn ? list.children.length : 0;
    if (!goOn) list.replaceChildren();
    list.append(...rows.slice(before, shown).map((item) => el("li", {}, answer(item, board, row))));
    if (goOn) list.children[before]?.firstChild.focus();
    more.hidden = rows.length <= shown;
    count.textContent =
      `${Math.min(shown, rows.length)} of ${plural(rows.length, "answer")}` +
      (rows.length < items.length ? `, ${items.length} in all` : "");
  }
  fill();
  category.label.hidden = !categories.length;
  const idsOnly = pairing.texts.every((text) => text === null);
  return [
    idsOnly
      ? el(
          "p",
          { class: "quiet" },
          "The licence of these instructions does not let this page carry them: their ids are shown.",
        )
      : "",
    el("div", { class: "bar" }, find.label, filters(category.label, result.label, sort.label)),
    count,
    list,
    more,
  ];
}

function answer(item, board, row) {
  const what = outcome(item.preference);
  const ended = { eos: "ended by itself", length: "cut at the limit", stop: "ended at a stop string" }[item.ended];
  const notes = [item.tokens === null ? null : plural(item.tokens, "token"), ended ?? null].filter(Boolean).join(", ");
  const verdicts =
    item.orders.length < 2 ? [] : item.orders.map(([order, p]) => el("span", {}, `${ORDERS[order]}: ${fixed(p, 2)}`));
  return el(
    "article",
    { tabindex: "-1" },
    el(
      "div",
      { class: "question" },
      el("h3", {}, item.question === null ? `instruction ${item.id}` : visible(item.question)),
      el(
        "div",
        { class: "verdicts" },
        el("span", { class: what }, `${what} ${fixed(item.preference, 2)}`),
        ...verdicts,
        item.attempt === null
          ? null
          : el("span", {}, `${tries(item) ? "attempt" : "no attempt"} ${fixed(item.attempt, 2)}`),
        item.category ? el("span", {}, item.category) : null,
      ),
    ),
    el(
      "div",
      { class: "sides" },
      el("div", {}, el("h4", {}, `${row.name}${notes ? ` (${notes})` : ""}`), ...long(item.system)),
      el("div", {}, el("h4", {}, `reference: ${board.reference}`), ...long(item.reference)),
    ),
  );
}

function long(text) {
  if (!text) return [el("p", { class: "text empty" }, "(empty answer)")];
  const shown = el("div", { class: "text", dir: "auto" }, visible(text.slice(0, LONG)));
  if (text.length <= LONG) return [shown];
  const button = el(
    "button",
    {
      type: "button",
      onclick: () => {
        shown.textContent = visible(text);
        shown.tabIndex = -1;
        shown.focus();
        button.remove();
      },
    },
    `Show all ${text.length} characters`,
  );
  return [shown, button];
}
