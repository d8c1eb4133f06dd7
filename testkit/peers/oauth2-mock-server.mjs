// A second identity provider for tests: the package `oauth2-mock-server`, which makes keys and tokens as it is told.
//
// PEER_MODULES=FOLDER/node_modules node oauth2-mock-server.mjs
//
// Each line of its input is a command, each answered by one line of JSON:
//   {"key": "RS256"}            a new key, which signs from now on; the answer has its kid
//   {"token": {claims}}         a token with these claims, signed with the newest key
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import path from 'node:path';

const require = createRequire(path.join(process.env.PEER_MODULES, 'x.js'));
const { OAuth2Server } = await import(pathToFileURL(require.resolve('oauth2-mock-server')).href);

const server = new OAuth2Server();
let newest = await server.issuer.keys.generate('RS256');
await server.start(0, '127.0.0.1');
server.issuer.url = `http://127.0.0.1:${server.address().port}`;
console.log(JSON.stringify({ issuer: server.issuer.url }));

for await (const line of createInterface({ input: process.stdin })) {
  const told = JSON.parse(line);
  if (told.key) {
    newest = await server.issuer.keys.generate(told.key);
    console.log(JSON.stringify({ kid: newest.kid }));
  } else {
    const token = await server.issuer.buildToken({
      kid: newest.kid,
      scopesOrTransform: (_header, payload) => Object.assign(payload, told.token),
    });
    console.log(JSON.stringify({ token }));
  }
}
process.exit(0);
