// node ag_ui.mjs NODE_MODULES BASE TASK...: watches each task with the official AG-UI client, which checks every event
// and their order, and prints what it has rendered.
import { createRequire } from "node:module";
import { join } from "node:path";

const [modules, base, ...tasks] = process.argv.slice(2);
const { HttpAgent } = createRequire(join(modules, "x.js"))("@ag-ui/client");
const rendered = [];
for (const task of tasks) {
  const agent = new HttpAgent({
    url: `${base}/v1/tasks/${task}/stream`,
    headers: { "X-API-Key": process.env.KEY },
    initialState: {},
  });
  let events = 0;
  let error = null;
  const custom = [];
  await agent.runAgent({}, {
    onEvent: () => { events += 1; },
    onCustomEvent: ({ event }) => { custom.push(event.name); },
    onRunErrorEvent: ({ event }) => { error = event.code ?? event.message; },
  }).catch((failure) => { error ??= String(failure); });
  const messages = agent.messages.map((m) => ({
    id: m.id, role: m.role, content: m.content,
    ...(m.toolCalls && { toolCalls: m.toolCalls }), ...(m.toolCallId && { toolCallId: m.toolCallId }),
  }));
  rendered.push({ seen: events > 0, error, custom, state: agent.state, messages });
}
console.log(JSON.stringify(rendered));
