// An identity provider for tests: the package `oidc-provider`, whose keys can be rotated and whose people are told here.
//
// PEER_MODULES=FOLDER/node_modules node oidc-provider.mjs JSON
//   JSON: port, algorithm (RS256, ES256, EdDSA), lifetime of tokens in seconds, resource of access tokens, people
//
// Prints one line of JSON with its issuer once it listens. Under /test/ it does what an operator would:
//   POST /test/rotate            a new key signs; the old one is still published
//   POST /test/retire            only the newest key is published
//   POST /test/people            {"name": {claims}} of those who sign in from now on
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import http from 'node:http';
import path from 'node:path';

const modules = process.env.PEER_MODULES;
const require = createRequire(path.join(modules, 'x.js'));
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const { default: Provider } = await load('oidc-provider');
const { generateKeyPair, exportJWK } = await load('jose');

const options = JSON.parse(process.argv[2] ?? '{}');
const port = options.port ?? 0;
const algorithm = options.algorithm ?? 'RS256';
const lifetime = options.lifetime ?? 300;
let people = options.people ?? {};
let serial = 0;
let keys = [];
let handle = (_request, response) => response.writeHead(503).end();

// What the provider keeps, over a rotation: sessions, codes, refresh tokens.
const kept = new Map();
class Kept {
  constructor(model) { this.model = model; }
  id(id) { return `${this.model}:${id}`; }
  async upsert(id, payload, expiresIn) {
    kept.set(this.id(id), { payload, until: expiresIn ? Date.now() + expiresIn * 1000 : Infinity });
  }
  async find(id) {
    const found = kept.get(this.id(id));
    return found && found.until > Date.now() ? found.payload : undefined;
  }
  async by(name, value) {
    for (const [id, { payload }] of kept) {
      if (id.startsWith(`${this.model}:`) && payload[name] === value) return payload;
    }
    return undefined;
  }
  findByUserCode(code) { return this.by('userCode', code); }
  findByUid(uid) { return this.by('uid', uid); }
  async consume(id) { kept.get(this.id(id)).payload.consumed = Math.floor(Date.now() / 1000); }
  async destroy(id) { kept.delete(this.id(id)); }
  async revokeByGrantId(grant) {
    for (const [id, { payload }] of kept) if (payload.grantId === grant) kept.delete(id);
  }
}

async function key() {
  serial += 1;
  const curve = algorithm === 'EdDSA' ? { crv: 'Ed25519' } : {};
  const pair = await generateKeyPair(algorithm, { extractable: true, ...curve });
  return { ...(await exportJWK(pair.privateKey)), kid: `key-${serial}`, alg: algorithm, use: 'sig' };
}

function provide(issuer) {
  const provider = new Provider(issuer, {
    jwks: { keys },
    adapter: Kept,
    // Also where the consent was given before: a test may sign in twice.
    issueRefreshToken: async (_context, client) => client.grantTypeAllowed('refresh_token'),
    clients: [{
      client_id: 'bgagent',
      token_endpoint_auth_method: 'none',
      application_type: 'native',
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
      response_types: ['code'],
      redirect_uris: ['http://127.0.0.1/callback'],
      id_token_signed_response_alg: algorithm,
    }, {
      client_id: 'robot',
      client_secret: 'robot-secret',
      grant_types: ['client_credentials'],
      response_types: [],
      redirect_uris: [],
      id_token_signed_response_alg: algorithm,
    }],
    cookies: { keys: ['test'] },
    conformIdTokenClaims: false,
    claims: { openid: ['sub', 'groups', 'name'] },
    scopes: ['openid', 'offline_access'],
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256', 'EdDSA'] },
    ttl: { IdToken: lifetime, AccessToken: lifetime, DeviceCode: 600, RefreshToken: 86400, Grant: 86400, Session: 86400, Interaction: 600 },
    findAccount: (_context, id) => ({ accountId: id, claims: async () => ({ sub: id, ...people[id] }) }),
    features: {
      clientCredentials: { enabled: true },
      deviceFlow: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => (options.resource ? options.resource : undefined),
        useGrantedResource: () => true,
        getResourceServerInfo: (_context, resource) => ({
          scope: 'api', audience: resource, accessTokenFormat: 'jwt', accessTokenTTL: lifetime,
          jwt: { sign: { alg: algorithm } },
        }),
      },
    },
  });
  handle = provider.callback();
}

async function told(request) {
  let text = '';
  for await (const part of request) text += part;
  return text ? JSON.parse(text) : {};
}

const server = http.createServer(async (request, response) => {
  if (!request.url.startsWith('/test/')) return handle(request, response);
  const issuer = `http://127.0.0.1:${server.address().port}`;
  if (request.url === '/test/rotate') keys = [await key(), ...keys];
  if (request.url === '/test/retire') keys = keys.slice(0, 1);
  if (request.url === '/test/people') people = await told(request);
  provide(issuer);
  response.writeHead(200, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ keys: keys.map(({ kid }) => kid) }));
});

keys = [await key()];
server.listen(port, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  provide(issuer);
  console.log(JSON.stringify({ issuer }));
});
// Whoever started us has gone.
process.stdin.on('end', () => process.exit(0)).resume();
