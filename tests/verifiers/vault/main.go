// Logs in to the JWT auth method of Vault, its own code, set up as `countersign setup vault` says.
//
// Arguments: the recipe as JSON, the issuer's URL in place of the recipe's, the name of the role, and a token. Prints the policies
// that the login gives; exits with 1 when it is refused.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/hashicorp/go-hclog"
	jwtauth "github.com/hashicorp/vault-plugin-auth-jwt"
	"github.com/hashicorp/vault/sdk/logical"
)

type recipe struct {
	Files map[string]string `json:"files"`
}

func main() {
	if err := login(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func login(recipeJSON, issuer, role, token string) error {
	ctx := context.Background()
	storage := &logical.InmemStorage{}
	config := &logical.BackendConfig{
		StorageView: storage,
		// What is wrong with a configuration it says to its log alone.
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: os.Stderr}),
		System: &logical.StaticSystemView{},
	}
	backend, err := jwtauth.Factory(ctx, config)
	if err != nil {
		return err
	}
	var given recipe
	if err := json.Unmarshal([]byte(recipeJSON), &given); err != nil {
		return err
	}
	ask := func(operation logical.Operation, path string, data map[string]any) (*logical.Response, error) {
		request := &logical.Request{
			Operation:  operation,
			Path:       path,
			Storage:    storage,
			Data:       data,
			Connection: &logical.Connection{RemoteAddr: "127.0.0.1"},
		}
		response, err := backend.HandleRequest(ctx, request)
		if err == nil && response != nil && response.IsError() {
			err = response.Error()
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return response, nil
	}
	writes := []struct {
		operation  logical.Operation
		path, file string
	}{
		{logical.UpdateOperation, "config", "vault-config.json"},
		// Vault itself finds out that there is none yet.
		{logical.CreateOperation, "role/" + role, "vault-role.json"},
	}
	for _, write := range writes {
		var data map[string]any
		if err := json.Unmarshal([]byte(given.Files[write.file]), &data); err != nil {
			return err
		}
		for name, value := range data {
			if text, is := value.(string); is && strings.HasPrefix(text, "https://") {
				data[name] = issuer
			}
		}
		if _, err := ask(write.operation, write.path, data); err != nil {
			return err
		}
	}
	response, err := ask(logical.UpdateOperation, "login", map[string]any{"role": role, "jwt": token})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(response.Auth.Policies)
}
