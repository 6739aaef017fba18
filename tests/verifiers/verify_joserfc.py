"""Verifies an ID token with joserfc and prints its claims. Arguments: issuer, audience, token."""

import json
import sys
import urllib.request

from joserfc import jwk, jwt


def document(url):
    with urllib.request.urlopen(url) as answer:
        return json.load(answer)


issuer, audience, token = sys.argv[1:]
discovery = document(f"{issuer}/.well-known/openid-configuration")
assert discovery["issuer"] == issuer, "the document is of another issuer"
keys = jwk.KeySet.import_key_set(document(discovery["jwks_uri"]))
algorithms = discovery["id_token_signing_alg_values_supported"]
verified = jwt.decode(token, keys, algorithms=algorithms)
rules = {name: {"essential": True} for name in ["sub", "exp", "iat"]}
jwt.JWTClaimsRegistry(
    iss={"essential": True, "value": issuer}, aud={"essential": True, "value": audience}, **rules
).validate(verified.claims)
print(json.dumps(verified.claims))
