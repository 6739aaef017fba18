"""Verifies an ID token with PyJWT and prints its claims. Arguments: issuer, audience, token."""

import json
import sys
import urllib.request

import jwt

issuer, audience, token = sys.argv[1:]
with urllib.request.urlopen(f"{issuer}/.well-known/openid-configuration") as answer:
    discovery = json.load(answer)
assert discovery["issuer"] == issuer, "the document is of another issuer"
key = jwt.PyJWKClient(discovery["jwks_uri"]).get_signing_key_from_jwt(token)
claims = jwt.decode(
    token,
    key,
    algorithms=discovery["id_token_signing_alg_values_supported"],
    audience=audience,
    issuer=issuer,
    options={"require": ["iss", "sub", "aud", "exp", "iat"]},
)
print(json.dumps(claims))
