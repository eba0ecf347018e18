// What GitHub's own library says: `node octokit.mjs FOLDER < questions.json > answers.json`, where FOLDER holds its
// node_modules. Both builds are asked, the one for Node and the one for browsers and edge workers. Bodies come in
// base64 and are made text as a web framework does it. Run by tests/oracles/octokit.py.
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const home = join(resolve(process.argv[2]), "node_modules/@octokit/webhooks-methods");
const build = (name) => import(pathToFileURL(join(home, name, "index.js")).href);
const builds = { node: await build("dist-node"), web: await build("dist-web") };

async function verdict(library, { secret, text, signature }) {
  try {
    return (await library.verify(secret, text, signature)) ? "accepts" : "refuses";
  } catch {
    return "raises another error";
  }
}

async function answer({ secret, body, signature }) {
  const text = Buffer.from(body, "base64").toString("utf8");
  const question = { secret, text, signature: signature ?? undefined };
  return {
    signed: text ? await builds.node.sign(secret, text) : null,
    node: await verdict(builds.node, question),
    web: await verdict(builds.web, question),
  };
}

const { version } = JSON.parse(readFileSync(join(home, "package.json"), "utf8"));
const answers = [];
for (const question of JSON.parse(readFileSync(0, "utf8"))) answers.push(await answer(question));
process.stdout.write(JSON.stringify({ version, answers }));
