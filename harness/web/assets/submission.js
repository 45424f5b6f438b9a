// One submission: its answers beside the reference's.

async function showSubmission(id, wanted) {
  const found = data.boards
    .flatMap((board) => (board.published ? [] : board.rows.map((row) => ({ board, row }))))
    .find(({ row }) => row.members.some((member) => member.id === id));
  if (!found) return showBoard();
  const { board, row } = found,
    member = row.members.find((m) => m.id === id);
  const status = el("p", { role: "status" }, "Loading the answers …");
  const head = el("h2", { tabindex: "-1" }, [row.label, row.name].filter(Boolean).join(": "));
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
    el("div", { class: "head" }, head, row.badge ? el("span", { class: `badge ${row.badge}` }, row.badge) : ""),
    el(
      "p",
      { class: "quiet" },
      [
        member.revision && `revision ${member.revision}`,
        row.base,
        board.reference && `against ${board.reference}`,
        board.judge && `judged by ${board.judge}`,
      ]
        .filter(Boolean)
        .join(", "),
    ),
    seeds ?? "",
    status,
  );
  const here = location.hash;
  head.focus({ preventScroll: true });
  window.scrollTo(0, 0);
  try {
    const own = await payload(member.key);
    if (location.hash !== here) return; // the reader has gone on
    const pairing = own.pairing ? await payload(own.pairing) : null;
    if (location.hash !== here) return;
    status.replaceWith(
      facts(own),
      ...(pairing
        ? answers(own, pairing, board, row, wanted)
        : [el("p", {}, "This submission reports scores only: there are no answers to read.")]),
    );
    const article = wanted && document.getElementById(`answer-${wanted}`);
    if (article) {
      article.focus({ preventScroll: true });
      article.scrollIntoView({ block: "start" });
    }
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

const outcome = (preference) =>
  preference === null ? "not judged" : preference > 0.5 ? "win" : preference < 0.5 ? "loss" : "draw";
// What can be wrong with an answer's form, for readers.
const FORMS = {
  empty: "empty",
  echo: "echo: mostly the instruction’s own words",
  loop: "loop: says the same again and again",
  leak: "leak: a role tag of the chat format",
  cut: "cut: at the token limit",
};

const tries = (item) => item.attempt >= 0.5;
const WANTED = { split: (item) => item.split, attempt: tries, none: (item) => !tries(item) };

function answers(own, pairing, board, row, linked) {
  const items = pairing.ids.map((id, i) => ({
    i,
    id,
    question: pairing.texts[i],
    category: pairing.categories[i],
    system: own.outputs[i],
    reference: pairing.outputs ? pairing.outputs[i] : null,
    ended: own.finish[i],
    tokens: own.tokens[i],
    preference: own.preferences[i],
    attempt: own.attempts ? own.attempts[i] : null,
    orders: Object.entries(own.orders).map(([order, values]) => [order, values[i]]),
    forms: own.forms?.[i] ?? [],
    ranks: own.ranks?.[i] ?? null,
    unranked: Boolean(own.ranks && !own.ranks[i]),
    member: row.members.find((member) => member.key === own.key) ?? row.members[0],
  }));
  for (const item of items) {
    item.low = `${item.question ?? item.id}\n${item.system}\n${item.reference ?? ""}`.toLowerCase();
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
      ...(pairing.outputs
        ? [
            ["win", `wins (${tally("win")})`],
            ["loss", `losses (${tally("loss")})`],
            ["draw", `draws (${tally("draw")})`],
            ["split", `orders disagree (${items.filter((item) => item.split).length})`],
          ]
        : []),
      ...(own.attempts
        ? [
            ["attempt", `attempts (${items.filter(tries).length})`],
            ["none", `no attempts (${items.filter((item) => !tries(item)).length})`],
          ]
        : []),
    ],
    refill,
  );
  const counted = Object.keys(FORMS).map((name) => [name, items.filter((item) => item.forms.includes(name)).length]);
  const form = select(
    "Form of failure",
    [["", "any"], ...counted.filter(([, n]) => n).map(([name, n]) => [name, `${name} (${n})`]), ["none", "none of these"]],
    refill,
  );
  form.label.hidden = !counted.some(([, n]) => n);
  const sort = select(
    "Sort",
    [
      ["best", "best verdicts first"],
      ["worst", "worst verdicts first"],
      ["long", "longest answers first"],
      ["i", "by instruction id"],
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
    best: (a, b) => (b.preference ?? -1) - (a.preference ?? -1) || (b.attempt ?? 0) - (a.attempt ?? 0) || a.i - b.i,
    worst: (a, b) => (a.preference ?? 2) - (b.preference ?? 2) || (a.attempt ?? 0) - (b.attempt ?? 0) || a.i - b.i,
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
          (!form.control.value ||
            (form.control.value === "none" ? !item.forms.length : item.forms.includes(form.control.value))) &&
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
  if (linked) {
    const place = items.filter(() => true).sort(ORDER[sort.control.value]).findIndex((item) => item.id === linked);
    shown = Math.max(shown, STEP * Math.ceil((place + 1) / STEP));
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
    el("div", { class: "bar" }, find.label, filters(category.label, result.label, form.label, sort.label)),
    items.some((item) => item.ranks) ? rankLegend(items.filter((item) => item.ranks).length, items.length) : "",
    count,
    list,
    more,
  ];
}

function answer(item, board, row) {
  const what = outcome(item.preference);
  const ended = { eos: "ended by itself", length: "cut at the limit", stop: "ended at a stop string" }[item.ended];
  const notes = [item.tokens === null ? null : plural(item.tokens, "token"), ended ?? null, item.unranked ? "tokens not ranked" : null].filter(Boolean).join(", ");
  const verdicts =
    item.orders.length < 2 ? [] : item.orders.map(([order, p]) => el("span", {}, `${ORDERS[order]}: ${fixed(p, 2)}`));
  return el(
    "article",
    { tabindex: "-1", id: `answer-${item.id}` },
    el(
      "div",
      { class: "question" },
      el("h3", {}, item.question === null ? `instruction ${item.id}` : visible(item.question)),
      el(
        "div",
        { class: "verdicts" },
        item.reference === null ? null : el("span", { class: what }, item.preference === null ? what : `${what} ${fixed(item.preference, 2)}`),
        ...verdicts,
        item.attempt === null
          ? null
          : el("span", {}, `${tries(item) ? "attempt" : "no attempt"} ${fixed(item.attempt, 2)}`),
        ...item.forms.map((name) => el("span", { class: "form" }, FORMS[name] ?? name)),
        item.category ? el("span", {}, item.category) : null,
        el("a", { href: toSubmission(item.member, item.id), class: "share" }, "Link to this answer"),
      ),
    ),
    el(
      "div",
      { class: "sides" },
      el("div", {}, el("h4", {}, `${row.name || row.label}${notes ? ` (${notes})` : ""}`), ...(item.ranks ? [ranked(item.ranks)] : long(item.system))),
      item.reference === null
        ? null
        : el("div", {}, el("h4", {}, `reference: ${board.reference}`), ...long(item.reference)),
    ),
  );
}

// Tokens by their rank under the base model: its first choice, its second or third, beyond.
function ranked(tokens) {
  return el(
    "div",
    { class: "text ranked", dir: "auto" },
    ...tokens.map(([text, rank, choice]) =>
      rank === 1
        ? visible(text)
        : el("mark", { class: rank <= 3 ? "marginal" : "shifted", title: `rank ${rank}; the base model’s choice: ${visible(choice)}` }, visible(text)),
    ),
  );
}

function rankLegend(count, all) {
  return el(
    "p",
    { class: "quiet" },
    `Tokens${count < all ? ` of ${count} of ${all} answers` : ""} by their rank under the base model: unmarked its first choice, `,
    el("mark", { class: "marginal" }, "marginal"),
    " its second or third, ",
    el("mark", { class: "shifted" }, "shifted"),
    " beyond.",
  );
}

function long(text, most = LONG) {
  if (!text) return [el("p", { class: "text empty" }, "(empty answer)")];
  const shown = el("div", { class: "text", dir: "auto" }, visible(text.slice(0, most)));
  if (text.length <= most) return [shown];
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
