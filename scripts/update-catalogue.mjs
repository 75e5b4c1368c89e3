// Writes internal/families/catalogue.json: what providers serve, with limits, capabilities and prices. Run it as
// `make catalogue`. Nothing in that file is typed by hand; its two sources are pinned in catalogue/sources.json by
// version and hash, so that the same sources give the same file. To follow newer ones, change the pins and read the
// diff, which has one line for each model that changed.
//
//   - pi-ai: which models a provider serves, context, longest answer, images, reasoning, prices. Its chat catalogue has
//     only models that can call tools.
//   - genai-prices: prices that people check, older models, embedding models.
//
// A price comes from genai-prices where it names exactly this id, else from pi-ai, which names all its ids. Where the id
// means another model every few months (…-latest), the newer source wins, which is pi-ai.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const target = join(here, "../internal/families/catalogue.json");
const { pi, prices, providers } = JSON.parse(readFileSync(join(here, "catalogue/sources.json"), "utf8"));

// What is no text in, text out, and no vector: there is no price per token of text for it, or not only.
const foreign = /image|audio|tts|whisper|transcri|realtime|live|veo|imagen|dall-e|moderation|sora|rerank|guard|ocr|voxtral|computer-use|deep-research|search|flux|diffusion|kontext/i;
const embedding = /embed|^voyage-|[/-](bge|gte|e5)-|minilm|m2-bert|retrieval/i;
// Half-price variants of the same model, for work that waits.
const batch = /[:-](batch|flex)$/;
const moving = /latest/;

function unpack(source, into) {
  const [{ filename, integrity }] = JSON.parse(
    execFileSync("npm", ["pack", "--json", "--silent", `${source.package}@${source.version}`], { cwd: into, encoding: "utf8" }),
  );
  const tarball = join(into, filename);
  const found = "sha512-" + createHash("sha512").update(readFileSync(tarball)).digest("base64");
  if (found !== source.integrity) {
    throw new Error(`${source.package}@${source.version}: hash ${found} (${integrity}), sources.json has ${source.integrity}`);
  }
  const root = join(into, source.package.replace(/\W/g, "-"));
  execFileSync("mkdir", [root]);
  execFileSync("tar", ["-xzf", tarball, "-C", root, "--strip-components=1"]);
  return root;
}

// readData reads pi-ai's models of each provider after checking every file against the package's own manifest.
function readData(root) {
  const folder = join(root, "dist/providers/data");
  const manifest = JSON.parse(readFileSync(join(folder, ".manifest.json"), "utf8"));
  const byProvider = {};
  for (const [file, hash] of Object.entries(manifest.files)) {
    const text = readFileSync(join(folder, file));
    if (createHash("sha256").update(text).digest("hex") !== hash) {
      throw new Error(`${file} is not what its manifest says`);
    }
    const apis = Object.values(JSON.parse(text));
    byProvider[file.replace(/\.json$/, "")] = apis.flatMap((models) => Object.values(models)).filter((m) => m.type === "chat");
  }
  return { date: manifest.generatedAt.slice(0, 10), byProvider };
}

const nano = (usd) => Math.round(usd * 1e9);

// toPrice makes [input, output, cached input, cache write, cache write for an hour, reasoning, audio in, audio out], in
// nano-dollars per million tokens, without the zeros at its end. A provider that names no price for cached input, or
// none, gives no discount; 0 for one of the others says that it has no price of its own.
function toPrice({ input, output, cached = 0, write = 0, hour = 0, reasoning = 0, audioIn = 0, audioOut = 0 }) {
  const price = [input, output, cached > 0 ? cached : input, write, hour, reasoning, audioIn, audioOut].map(nano);
  while (price.length > 3 && !price.at(-1)) price.pop();
  return price;
}

// written is what a cache write costs. Of Google's models both sources name the storage alone, which comes on top.
const written = (id, input, write) => (write > 0 && write < input && /gemini/.test(id) ? input + write : write);

const ofPi = (id, { input, output, cacheRead, cacheWrite }) => toPrice({ input, output, cached: cacheRead, write: written(id, input, cacheWrite) });

function piPrice(model) {
  const { input, output, tiers } = model.cost;
  // Zero is also what pi-ai has where it knows no price: only an id that says free is free.
  if (!(input > 0 || output > 0 || /free$/.test(model.id))) return undefined;
  const price = ofPi(model.id, model.cost);
  return { price, above: dearer((tiers ?? []).map((t) => ({ tokens: t.inputTokensAbove, price: ofPi(model.id, t) })), price) };
}

// dearer lists what holds for longer prompts, shortest first, without what changes nothing.
function dearer(tiers, before) {
  const list = [];
  for (const tier of tiers.sort((a, b) => a.tokens - b.tokens)) {
    if (String(tier.price) !== String(before)) list.push(tier);
    before = tier.price;
  }
  return list.length ? list : undefined;
}

// at is a price of genai-prices for a prompt of more than so many tokens; undefined: for a short one.
function at(price, tokens) {
  if (typeof price !== "object") return price;
  let found = price.base;
  if (tokens !== undefined) for (const t of price.tiers) if (t.start <= tokens) found = t.price;
  return found;
}

function ofGenai(id, p, tokens) {
  const input = at(p.input_mtok, tokens);
  return toPrice({
    input, output: at(p.output_mtok, tokens) ?? 0, cached: at(p.cache_read_mtok, tokens) ?? 0,
    write: written(id, input, at(p.cache_write_mtok, tokens) ?? 0), hour: at(p.cache_write_1h_mtok, tokens) ?? 0, reasoning: at(p.output_reasoning_mtok, tokens) ?? 0,
    audioIn: at(p.input_audio_mtok, tokens) ?? 0, audioOut: at(p.output_audio_mtok, tokens) ?? 0,
  });
}

// genaiPrice is the price on the day of the catalogue; where it depends on the hour, the highest one.
function genaiPrice(calcPrice, id, provider, date) {
  let dearest;
  for (let hour = 0; hour < 24; hour++) {
    const timestamp = new Date(`${date}T${String(hour).padStart(2, "0")}:30:00Z`);
    const found = calcPrice({ input_tokens: 0 }, id, { providerId: provider, timestamp });
    const p = found?.model_price;
    if (at(p?.input_mtok) === undefined) return undefined;
    const price = ofGenai(id, p);
    const starts = [...new Set(Object.values(p).flatMap((kind) => kind?.tiers?.map((t) => t.start) ?? []))];
    const above = dearer(starts.map((tokens) => ({ tokens, price: ofGenai(id, p, tokens) })), price);
    if (!dearest || price[0] > dearest.price[0]) dearest = { price, above, model: found.model };
  }
  return dearest;
}

// exactIDs lists the ids that genai-prices names in full for a model.
function exactIDs(model) {
  const ids = [model.id];
  const walk = (match) => {
    if (match.equals) ids.push(match.equals);
    for (const m of match.or ?? []) walk(m);
  };
  walk(model.match);
  return [...new Set(ids)].filter((id) => id === id.trim() && /^\S+$/.test(id));
}

// entry has its members in the order in which they are written.
function entry(at, id, model, price) {
  const kind = model.embedding ? { kind: "embedding" } : {};
  const limits = { ...(model.context && { context: model.context }), ...(model.output && { output: model.output }) };
  return { at, id, ...kind, ...limits, ...(model.can && { can: model.can }), ...(price && { price: price.price }), ...(price?.above && { above: price.above }) };
}

function can(model) {
  return ["tools", ...(model.input.includes("image") ? ["vision"] : []), ...(model.reasoning ? ["reasoning"] : [])];
}

// together fills what one source does not say of a price with what the other one does, where they agree on the rest: pi-ai
// knows cache writes of models of which genai-prices does not, and prices for longer prompts.
function together(price, other) {
  if (!other || String(price.price.slice(0, 3)) !== String(other.price.slice(0, 3))) return price;
  const filled = Array.from({ length: Math.max(price.price.length, other.price.length) }, (_, i) => price.price[i] || other.price[i] || 0);
  return { ...price, price: filled, above: price.above ?? other.above };
}

function ofProvider(provider, data, genai, report) {
  const found = new Map();
  const known = provider.prices ? genai.findProvider({ providerId: provider.prices }).models : [];
  const named = new Map(known.flatMap((m) => exactIDs(m).map((id) => [id.toLowerCase(), m])));
  for (const m of data.byProvider[provider.pi] ?? []) {
    if (batch.test(m.id) || foreign.test(m.id)) continue;
    const own = piPrice(m);
    const theirs = provider.prices && genaiPrice(genai.calcPrice, m.id, provider.prices, data.date);
    const exact = theirs && named.get(m.id.toLowerCase()) === theirs.model;
    const price = exact && !(moving.test(m.id) && own) ? together(theirs, own) : own ? together(own, theirs) : theirs;
    if (own && theirs && exact && String(own.price.slice(0, 3)) !== String(theirs.price.slice(0, 3))) {
      report.push(`${provider.name}/${m.id}: pi-ai ${own.price}, genai-prices ${theirs.price}, taken ${price.price}`);
    }
    found.set(m.id, entry(provider.name, m.id, { context: m.contextWindow, output: m.maxTokens, can: can(m) }, price));
  }
  for (const m of known) {
    for (const id of exactIDs(m)) {
      const isEmbedding = embedding.test(m.id) && !/rerank/.test(m.id);
      if (found.has(id) || batch.test(id) || (foreign.test(id) && !isEmbedding) || (provider.listed && !isEmbedding)) continue;
      const price = genaiPrice(genai.calcPrice, id, provider.prices, data.date);
      if (!price || price.model !== m || (!isEmbedding && price.price[1] === 0)) continue;
      found.set(id, entry(provider.name, id, { embedding: isEmbedding, context: m.context_window }, price));
    }
  }
  return [...found.values()];
}

function write(providers, models, date) {
  const head = {
    about: "What providers serve. Written by scripts/update-catalogue.mjs (make catalogue) from the sources below: do not edit. Prices are nano-dollars per million tokens: input, output, cached input, and where they have a price of their own cache writes, cache writes for an hour, reasoning, audio in, audio out (0: none); above is what holds for prompts of more tokens. can has tools, vision and reasoning, and is missing where nothing is known; docs/models.md says more.",
    date,
    sources: [pi, prices].map((s) => ({ package: s.package, version: s.version, published: s.published, licence: s.licence })),
  };
  const lines = (list) => list.map((item) => "    " + JSON.stringify(item)).join(",\n");
  const order = (a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
  models.sort(order);
  const body = `{\n  "about": ${JSON.stringify(head.about)},\n  "date": ${JSON.stringify(date)},\n  "sources": [\n${lines(head.sources)}\n  ],\n  "providers": [\n${lines(
    providers.map(({ name, hosts }) => ({ name, hosts })),
  )}\n  ],\n  "models": [\n${lines(models)}\n  ]\n}\n`;
  JSON.parse(body);
  writeFileSync(target, body);
}

const folder = mkdtempSync(join(tmpdir(), "catalogue-"));
try {
  const data = readData(unpack(pi, folder));
  const genai = await import(pathToFileURL(join(unpack(prices, folder), "dist/index.js")));
  const report = [];
  const models = providers.flatMap((p) => ofProvider(p, data, genai, report));
  write(providers, models, data.date);
  for (const line of report.sort()) console.log(line);
  const priced = models.filter((m) => m.price).length;
  console.log(`${models.length} models at ${providers.length} providers, ${priced} with a price; ${report.length} prices differ between the sources`);
} finally {
  rmSync(folder, { recursive: true });
}
