// The official Node.js client against a running ShareAI: only the base URL and the key are ours.
// test/sdk/run.sh starts one and sets SHAREAI_URL and SHAREAI_KEY.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { suite, test } from "node:test";
import OpenAI, { AuthenticationError, BadRequestError, NotFoundError } from "openai";

const { SHAREAI_URL: gateway, SHAREAI_KEY: apiKey } = process.env;
assert.ok(gateway && apiKey, "SHAREAI_URL and SHAREAI_KEY are not set: run test/sdk/run.sh");

const model = process.env.SHAREAI_CHAT_MODEL ?? "demo-chat";
const embedModel = process.env.SHAREAI_EMBED_MODEL ?? "demo-embed";
const messages = [{ role: "user", content: "Tell me about gateways." }];

// No retries: an error has to reach its test at once.
const connect = (key) => new OpenAI({ baseURL: `${gateway}/v1`, apiKey: key, maxRetries: 0 });
const client = connect(apiKey);

async function collect(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}

suite("models", () => {
  test("the list names what the key may use", async () => {
    const ids = (await collect(client.models.list())).map(({ id, object }) => (assert.equal(object, "model"), id));
    assert.ok(ids.includes(model) && ids.includes(embedModel), `got ${ids}`);
  });

  test("one model is found by its id", async () => {
    const found = await client.models.retrieve(model);
    assert.equal(found.id, model);
    assert.equal(typeof found.created, "number");
    assert.equal(typeof found.owned_by, "string");
  });
});

suite("chat completions", () => {
  test("whole", async () => {
    const answer = await client.chat.completions.create({ model, messages });
    assert.equal(answer.object, "chat.completion");
    assert.match(answer.id, /^chatcmpl-.{16,}/);
    assert.equal(answer.choices.length, 1);
    const [choice] = answer.choices;
    assert.equal(choice.message.role, "assistant");
    assert.ok(choice.message.content.length > 0);
    assert.equal(choice.finish_reason, "stop");
    const { prompt_tokens, completion_tokens, total_tokens } = answer.usage;
    assert.ok(prompt_tokens > 0 && completion_tokens > 0);
    assert.equal(total_tokens, prompt_tokens + completion_tokens);
  });

  test("max_tokens ends it early and says so", async () => {
    const { choices, usage } = await client.chat.completions.create({ model, messages, max_tokens: 2 });
    assert.equal(choices[0].finish_reason, "length");
    assert.equal(usage.completion_tokens, 2);
  });

  test("streamed: one id, one role, one finish_reason, usage at the end", async () => {
    const chunks = await collect(
      await client.chat.completions.create({ model, messages, stream: true, stream_options: { include_usage: true } }),
    );
    assert.equal(new Set(chunks.map(({ id }) => id)).size, 1);
    assert.match(chunks[0].id, /^chatcmpl-.{16,}/);
    assert.ok(chunks.every(({ object }) => object === "chat.completion.chunk"));
    assert.equal(new Set(chunks.map((chunk) => chunk.model)).size, 1);

    const last = chunks.pop();
    assert.deepEqual(last.choices, []);
    assert.ok(last.usage.completion_tokens > 0);
    assert.ok(chunks.every(({ usage }) => usage == null));

    const choices = chunks.flatMap((chunk) => chunk.choices);
    assert.deepEqual(choices.map(({ delta }) => delta.role).filter(Boolean), ["assistant"]);
    assert.equal(choices[0].delta.role, "assistant");
    assert.deepEqual(choices.map((choice) => choice.finish_reason).filter(Boolean), ["stop"]);
    assert.equal(choices.at(-1).finish_reason, "stop");
    assert.ok(choices.map(({ delta }) => delta.content ?? "").join("").length > 0);
  });

  test("no usage chunk where none was asked for", async () => {
    const chunks = await collect(await client.chat.completions.create({ model, messages, stream: true }));
    assert.ok(chunks.every(({ choices, usage }) => choices.length === 1 && usage == null));
  });

  test("the client's own accumulator agrees with its chunks", async () => {
    const runner = client.chat.completions.stream({ model, messages });
    let text = "";
    runner.on("content", (delta) => (text += delta));
    const final = await runner.finalChatCompletion();
    assert.ok(text.length > 0);
    assert.equal(final.choices[0].message.content, text);
  });

  test("answers do not share an id", async () => {
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => client.chat.completions.create({ model, messages, max_tokens: 1 })),
    );
    assert.equal(new Set(answers.map(({ id }) => id)).size, answers.length);
  });

  test("leaving a stream ends it and harms nobody", async () => {
    const stream = await client.chat.completions.create({ model, messages, stream: true });
    let finished = false;
    for await (const { choices } of stream) {
      finished ||= choices.some((choice) => choice.finish_reason);
      if (choices[0]?.delta.content) stream.controller.abort();
    }
    assert.ok(!finished, "the whole answer arrived before it could be left");
    const { choices } = await client.chat.completions.create({ model, messages, max_tokens: 1 });
    assert.equal(choices.length, 1);
  });
});

suite("completions", () => {
  const prompt = "My favourite animal";

  test("whole", async () => {
    const answer = await client.completions.create({ model, prompt });
    assert.equal(answer.object, "text_completion");
    assert.match(answer.id, /^cmpl-.{16,}/);
    assert.ok(answer.choices[0].text.length > 0);
    assert.equal(answer.choices[0].finish_reason, "stop");
    assert.ok(answer.usage.total_tokens > 0);
  });

  test("streamed", async () => {
    const chunks = await collect(await client.completions.create({ model, prompt, stream: true }));
    assert.equal(new Set(chunks.map(({ id }) => id)).size, 1);
    const choices = chunks.flatMap((chunk) => chunk.choices);
    assert.ok(choices.map(({ text }) => text).join("").length > 0);
    assert.deepEqual(choices.map((choice) => choice.finish_reason).filter(Boolean), ["stop"]);
  });
});

suite("embeddings", () => {
  const input = ["a gateway in front of many providers", "a fox"];

  test("base64, which this client asks for by itself, carries the same numbers as plain floats", async () => {
    const packed = await client.embeddings.create({ model: embedModel, input });
    const plain = await client.embeddings.create({ model: embedModel, input, encoding_format: "float" });
    assert.deepEqual(packed.data.map(({ index }) => index), [0, 1]);
    assert.ok(packed.usage.prompt_tokens > 0);
    for (const [i, { embedding }] of packed.data.entries()) {
      const want = plain.data[i].embedding;
      assert.equal(embedding.length, want.length);
      assert.ok(want.some((x) => x !== 0));
      for (const [j, x] of embedding.entries()) {
        assert.ok(Math.abs(x - want[j]) <= 1e-6, `embedding ${i}[${j}] is ${x}, want ${want[j]}`);
      }
    }
    assert.notDeepEqual(packed.data[0].embedding, packed.data[1].embedding);
  });
});

suite("errors are the client's own classes", () => {
  test("an unknown key: AuthenticationError", async () => {
    await assert.rejects(connect("sk-unknown").models.list(), (error) => {
      assert.ok(error instanceof AuthenticationError, `got ${error}`);
      assert.equal(error.code, "invalid_api_key");
      assert.ok(!error.message.includes("sk-unknown"), "the key is repeated in the message");
      return true;
    });
  });

  test("an unknown model: NotFoundError", async () => {
    for (const request of [
      () => client.chat.completions.create({ model: "no-such-model", messages }),
      () => client.chat.completions.create({ model: "no-such-model", messages, stream: true }),
      () => client.embeddings.create({ model: "no-such-model", input: "x" }),
      () => client.models.retrieve("no-such-model"),
    ]) {
      await assert.rejects(request(), (error) => {
        assert.ok(error instanceof NotFoundError, `got ${error}`);
        assert.equal(error.code, "model_not_found");
        assert.match(error.message, /no-such-model/);
        return true;
      });
    }
  });

  test("a malformed request: BadRequestError with the parameter", async () => {
    await assert.rejects(client.chat.completions.create({ model: 42, messages }), (error) => {
      assert.ok(error instanceof BadRequestError, `got ${error}`);
      assert.equal(error.param, "model");
      assert.equal(error.type, "invalid_request_error");
      return true;
    });
  });

  test("an error carries the request's id", async () => {
    await assert.rejects(client.models.retrieve("no-such-model"), (error) => {
      assert.ok(error.requestID);
      assert.equal(error.error.request_id, error.requestID);
      return true;
    });
  });
});

suite("headers", () => {
  test("every answer names its request, and a model answer who gave it and at what cost", async () => {
    const { data, response } = await client.chat.completions.create({ model, messages }).withResponse();
    assert.ok(data._request_id);
    assert.equal(response.headers.get("x-request-id"), data._request_id);
    for (const name of ["provider", "model", "deployment"]) {
      assert.ok(response.headers.get(`x-shareai-${name}`), `x-shareai-${name} is missing`);
    }
    assert.ok(Number(response.headers.get("x-shareai-attempts")) >= 1);
    assert.match(response.headers.get("x-shareai-cost") ?? "", /^\d+(\.\d+)?$/);
    assert.equal((await client.models.list().withResponse()).response.headers.has("x-request-id"), true);
  });
});

// A drill needs the command line and the data of the gateway: run.sh sets both when the demo is its own.
const { SHAREAI_BIN: bin, SHAREAI_DEMO_DIR: demoDir } = process.env;
const noDrill = bin && demoDir ? false : "drills need a demo of run.sh's own";

suite("failover", { skip: noDrill }, () => {
  const request = { model, messages, stream: true, stream_options: { include_usage: true } };
  const textOf = (chunks) => chunks.map(({ choices: [choice] }) => choice?.delta.content ?? "").join("");
  const shareai = (...args) =>
    JSON.parse(execFileSync(bin, [...args, "--data-dir", demoDir, "--config", `${demoDir}/shareai.yaml`, "--json"], { encoding: "utf8" }));

  test("a stream that breaks half-way is completed, and the client reads on", async () => {
    const whole = textOf(await collect(await client.chat.completions.create(request)));
    const drill = shareai("drill", "start", "--project", "demo", "--provider", "alpha", "--fault", "cut", "--for", "1m");
    try {
      for (let tries = 0; ; tries++) {
        const chunks = await collect(await client.chat.completions.create(request));
        assert.equal(textOf(chunks), whole);
        assert.equal(chunks.filter(({ choices: [choice] }) => choice?.finish_reason).length, 1);
        if (chunks.at(-1)["x-shareai-resumed"]) return;
        assert.ok(tries < 100, "the drill is not in force");
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    } finally {
      shareai("drill", "stop", drill.id);
    }
  });
});

suite("idempotency", () => {
  test("a repeat gets the same answer", async () => {
    const options = { headers: { "Idempotency-Key": `sdk-${process.pid}-${Date.now()}` } };
    const first = await client.chat.completions.create({ model, messages }, options).withResponse();
    const second = await client.chat.completions.create({ model, messages }, options).withResponse();
    assert.deepEqual(second.data, first.data);
    assert.equal(first.response.headers.get("idempotent-replayed"), null);
    assert.equal(second.response.headers.get("idempotent-replayed"), "true");
  });
});
