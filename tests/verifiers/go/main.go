// Verifies an ID token with go-oidc and prints its claims. Arguments: issuer, audience, token.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/coreos/go-oidc/v3/oidc"
)

func verify(issuer, audience, token string) ([]byte, error) {
	provider, err := oidc.NewProvider(context.Background(), issuer)
	if err != nil {
		return nil, err
	}
	verified, err := provider.Verifier(&oidc.Config{ClientID: audience}).Verify(context.Background(), token)
	if err != nil {
		return nil, err
	}
	var claims map[string]any
	if err := verified.Claims(&claims); err != nil {
		return nil, err
	}
	return json.Marshal(claims)
}

func main() {
	claims, err := verify(os.Args[1], os.Args[2], os.Args[3])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(string(claims))
}
