// An inference server for tests: the OpenAI protocol in front of llama.cpp, with the models of ./gguf.
//
//   node server.mjs tiny-chat.gguf tiny-embed.gguf
//
// Prints one line, {"url":"http://127.0.0.1:PORT/v1"}, when it can answer, and ends when its standard input does, so
// that it never outlives the test that started it. Models: tiny-chat (chat, completions), tiny-embed (embeddings).
import { randomUUID } from "node:crypto";
import http from "node:http";
import { loadModels, PromptTooLong } from "./llama.mjs";

const CHAT = "tiny-chat";
const EMBED = "tiny-embed";
process.stdin.resume().on("end", () => process.exit(0));
const [chatPath, embedPath] = process.argv.slice(2);
const models = await loadModels({ chatPath, embedPath });
const started = now();

function now() {
  return Math.floor(Date.now() / 1000);
}

/** A failure with the status and the members of OpenAI's error object. */
class Refusal extends Error {
  constructor(status, message, { code = null, param = null } = {}) {
    super(message);
    Object.assign(this, { status, code, param });
  }
}

const handlers = {
  "GET /health": () => ({ status: "ok" }),
  "GET /v1/models": () => ({ object: "list", data: [CHAT, EMBED].map(modelObject) }),
  "POST /v1/chat/completions": chatCompletion,
  "POST /v1/completions": textCompletion,
  "POST /v1/embeddings": embeddings,
};

const modelObject = (id) => ({ id, object: "model", created: started, owned_by: "local" });

function retrieveModel(path) {
  const id = decodeURIComponent(path.slice("/v1/models/".length));
  requireModel(id, [CHAT, EMBED]);
  return modelObject(id);
}

// ---- Reading requests. llama.cpp aborts the whole process on a value of the wrong type: look first.

async function readJSON(request) {
  let text = "";
  for await (const chunk of request.setEncoding("utf8")) text += chunk;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Refusal(400, `the body is not JSON: ${error.message}`);
  }
}

function requireModel(id, allowed) {
  if (!allowed.includes(id)) {
    throw new Refusal(404, `the model '${id}' does not exist`, { code: "model_not_found", param: "model" });
  }
}

function readNumber(body, name, fallback) {
  const value = body[name] ?? fallback;
  if (value !== undefined && typeof value !== "number") {
    throw new Refusal(400, `${name} must be a number`, { code: "invalid_type", param: name });
  }
  return value;
}

function readSampling(body) {
  return {
    temperature: readNumber(body, "temperature", 0.8),
    topP: readNumber(body, "top_p", 0.95),
    seed: readNumber(body, "seed"),
    maxTokens: readNumber(body, "max_completion_tokens", readNumber(body, "max_tokens")),
    stop: [body.stop ?? []].flat().map(String),
    ignoreEnd: body.ignore_eos === true, // vLLM's and llama-server's word for it
    schema: readSchema(body.response_format),
  };
}

function readSchema(format) {
  if (format?.type === "json_schema") return format.json_schema.schema;
  if (format?.type === "json_object") return { type: "object", properties: { ok: { type: "boolean" } } };
  return undefined;
}

// ---- Prompts and tool calls, in the marks that the model was written with.

const contentText = (content) =>
  typeof content === "string" ? content : (content ?? []).map((part) => part.text ?? "").join("");

const usesTools = (body) =>
  body.tools?.length > 0 && body.tool_choice !== "none" && body.messages.at(-1).role !== "tool";

function chatPrompt(body) {
  const turns = body.messages.map(({ role, content }) => `<|im_start|>${role}\n${contentText(content)}<|im_end|>\n`);
  if (body.tools?.length) turns.unshift(`<|im_start|>system\nTools: ${JSON.stringify(body.tools)}<|im_end|>\n`);
  const mark = !usesTools(body) ? "" : body.tools.length > 1 ? "<|tools|>" : "<|tool|>";
  return `${turns.join("")}<|im_start|>assistant\n${mark}`;
}

function toolCalls(text) {
  return Array.from(text.matchAll(/<tool_call>(.*?)<\/tool_call>/gs), ([, json]) => {
    const { name, arguments: args } = JSON.parse(json);
    return { id: `call_${randomUUID()}`, type: "function", function: { name, arguments: JSON.stringify(args) } };
  });
}

// ---- Answers. chat and completions differ in the form of a choice only.

const chatForm = {
  id: "chatcmpl-",
  object: "chat.completion",
  chunkObject: "chat.completion.chunk",
  opening: { delta: { role: "assistant", content: "" } },
  whole: (text, calls) => ({
    message: calls.length
      ? { role: "assistant", content: null, tool_calls: calls }
      : { role: "assistant", content: text },
  }),
  piece: (text) => ({ delta: { content: text } }),
  calls: (calls) => ({ delta: { tool_calls: calls.map((call, index) => ({ index, ...call })) } }),
  closing: { delta: {} },
};

const textForm = {
  id: "cmpl-",
  object: "text_completion",
  chunkObject: "text_completion",
  whole: (text) => ({ text }),
  piece: (text) => ({ text }),
  closing: { text: "" },
};

function chatCompletion(body, connection) {
  requireModel(body.model, [CHAT]);
  if (!Array.isArray(body.messages) || body.messages.length === 0) {
    throw new Refusal(400, "messages must be an array with at least one message", { param: "messages" });
  }
  return complete(chatForm, chatPrompt(body), { body, tools: usesTools(body), ...connection });
}

function textCompletion(body, connection) {
  requireModel(body.model, [CHAT]);
  const prompt = [body.prompt].flat().join("");
  return complete(textForm, prompt, { body, tools: false, ...connection });
}

async function complete(form, prompt, { body, tools, response, signal }) {
  const answer = { id: form.id + randomUUID(), created: now(), model: body.model };
  const stream = body.stream ? new Stream(form, answer, { response, body }) : undefined;
  // A tool call can only be told from text when it is whole, so it is not streamed piece by piece.
  const onText = stream && !tools ? (text) => stream.choice(form.piece(text)) : undefined;
  const result = await models.chat.generate(prompt, readSampling(body), { signal, onText });

  const calls = tools ? toolCalls(result.text) : [];
  const finish = calls.length ? "tool_calls" : result.finish;
  const usage = {
    prompt_tokens: result.promptTokens,
    completion_tokens: result.completionTokens,
    total_tokens: result.promptTokens + result.completionTokens,
  };
  if (!stream) {
    const choice = { index: 0, ...form.whole(result.text, calls), logprobs: null, finish_reason: finish };
    return { ...answer, object: form.object, choices: [choice], usage };
  }
  if (tools) stream.choice(calls.length ? form.calls(calls) : form.piece(result.text));
  stream.end(finish, usage);
  return undefined;
}

/** A server-sent answer. It opens with its first choice: what fails before that is still an ordinary HTTP error. */
class Stream {
  #form;
  #answer;
  #response;
  #wantsUsage;

  constructor(form, answer, { response, body }) {
    this.#form = form;
    this.#answer = { ...answer, object: form.chunkObject };
    this.#response = response;
    this.#wantsUsage = body.stream_options?.include_usage === true;
  }

  choice(content, finish = null) {
    if (!this.#response.headersSent) {
      this.#response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
      if (this.#form.opening) this.choice(this.#form.opening);
    }
    const choice = { index: 0, ...content, logprobs: null, finish_reason: finish };
    this.#send({ choices: [choice], ...(this.#wantsUsage && { usage: null }) });
  }

  end(finish, usage) {
    this.choice(this.#form.closing, finish);
    if (this.#wantsUsage) this.#send({ choices: [], usage });
    this.#response.end("data: [DONE]\n\n");
  }

  #send(members) {
    this.#response.write(`data: ${JSON.stringify({ ...this.#answer, ...members })}\n\n`);
  }
}

async function embeddings(body) {
  requireModel(body.model, [EMBED]);
  const inputs = [body.input ?? []].flat();
  if (inputs.length === 0) throw new Refusal(400, "input must not be empty", { param: "input" });
  const vectors = await Promise.all(inputs.map((text) => models.embed.vector(String(text))));
  const encode =
    body.encoding_format === "base64" ? (v) => Buffer.from(v.buffer).toString("base64") : (v) => Array.from(v);
  const tokens = vectors.reduce((sum, v) => sum + v.tokens, 0);
  return {
    object: "list",
    model: body.model,
    data: vectors.map(({ vector }, index) => ({ object: "embedding", index, embedding: encode(vector) })),
    usage: { prompt_tokens: tokens, total_tokens: tokens },
  };
}

// ---- HTTP.

async function answer(request, response) {
  const left = new AbortController();
  response.on("close", () => left.abort());
  const { pathname } = new URL(request.url, "http://engine");
  const handler = handlers[`${request.method} ${pathname}`];
  if (request.method === "GET" && pathname.startsWith("/v1/models/")) return retrieveModel(pathname);
  if (!handler) throw new Refusal(404, `there is no ${request.method} ${pathname} here`);
  if (request.method === "GET") return handler();
  return handler(await readJSON(request), { response, signal: left.signal });
}

function fail(response, error) {
  const status = error instanceof PromptTooLong ? 400 : (error.status ?? 500);
  const body = {
    error: {
      message: error.message,
      type: status < 500 ? "invalid_request_error" : "server_error",
      param: error.param ?? null,
      code: error instanceof PromptTooLong ? "context_length_exceeded" : (error.code ?? null),
    },
  };
  if (response.headersSent) response.end(`data: ${JSON.stringify(body)}\n\n`);
  else response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

const server = http.createServer(async (request, response) => {
  try {
    const body = await answer(request, response);
    if (body) response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
  } catch (error) {
    fail(response, error);
  }
});

server.listen(0, "127.0.0.1", () => {
  console.log(JSON.stringify({ url: `http://127.0.0.1:${server.address().port}/v1` }));
});
