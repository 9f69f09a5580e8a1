// An OAuth 2.0 issuer on loopback: `node oidc.mjs PATH_OF_OIDC_PROVIDER PORT CLIENT SECRET`. Its one client gets tokens for
// itself (client_credentials), for the resource that it names (RFC 8707). The path of the resource says what they are signed with,
// which is EdDSA where it names no algorithm.
import { generateKeyPairSync } from "node:crypto";
import { pathToFileURL } from "node:url";

const [library, port, client, secret] = process.argv.slice(2);
const { default: Provider } = await import(pathToFileURL(library));

const key = (alg, kind, options) => ({
  ...generateKeyPairSync(kind, options).privateKey.export({ format: "jwk" }),
  alg,
  kid: alg,
  use: "sig",
});

const keys = [
  key("RS256", "rsa", { modulusLength: 2048 }),
  key("PS256", "rsa", { modulusLength: 2048 }),
  key("ES256", "ec", { namedCurve: "P-256" }),
  key("EdDSA", "ed25519", {}),
];
const algorithm = (resource) => {
  const named = new URL(resource).pathname.slice(1);
  return keys.some(({ alg }) => alg === named) ? named : "EdDSA";
};

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    { client_id: client, client_secret: secret, grant_types: ["client_credentials"], redirect_uris: [], response_types: [] },
  ],
  jwks: { keys },
  scopes: ["aral:agent", "aral:reader", "aral:other"],
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_context, resource) => ({
        scope: "aral:agent aral:reader aral:other",
        accessTokenFormat: "jwt",
        accessTokenTTL: 600,
        jwt: { sign: { alg: algorithm(resource) } },
      }),
    },
  },
});

provider.listen(Number(port), "127.0.0.1");
