// Verifies an ID token with jose and prints its claims. Arguments: issuer, audience, token.
import { createRemoteJWKSet, jwtVerify } from "jose";

const [issuer, audience, token] = process.argv.slice(2);
const discovery = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json();
if (discovery.issuer !== issuer) throw new Error("the document is of another issuer");
const keys = createRemoteJWKSet(new URL(discovery.jwks_uri));
const { payload } = await jwtVerify(token, keys, {
  issuer,
  audience,
  algorithms: discovery.id_token_signing_alg_values_supported,
  requiredClaims: ["sub", "exp", "iat"],
});
console.log(JSON.stringify(payload));
