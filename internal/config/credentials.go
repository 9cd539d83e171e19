package config

import (
	"fmt"
	"io"
	"log/slog"
)

// Credentials is a pair of keys, or the order to find one in the places that AWS tools look in.
//
// However it is printed, logged or encoded, only the origin shows. There are two exceptions, where fmt prints a value without asking it: a Credentials in an
// unexported field of something else, so do not keep one there, and the verb %p, which vet refuses.
type Credentials struct {
	AccessKey, SecretKey, SessionToken string
	// Origin is "b2_env", "aws_env", "config" or "aws_chain".
	Origin Origin
	// Chain means that there are no keys here: profile, web identity, container and instance are to be asked.
	Chain bool
}

// String returns the origin in place of the keys.
func (c Credentials) String() string { return "credentials(" + string(c.Origin) + ")" }

// GoString returns the origin in place of the keys.
func (c Credentials) GoString() string { return c.String() }

// Format prints the origin in place of the keys for every verb that fmt leaves to a type.
func (c Credentials) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) } // fmt.State keeps no error

// LogValue logs the origin in place of the keys.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText encodes the origin in place of the keys.
func (c Credentials) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// MarshalJSON encodes the origin in place of the keys.
func (c Credentials) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, "%q", c.String()), nil }

// ResolveCredentials returns the first whole pair: B2_APPLICATION_KEY_ID and B2_APPLICATION_KEY, then AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY with
// AWS_SESSION_TOKEN, then the file's storage.access_key and storage.secret_key, else the order to ask the AWS chain. Pairs are never mixed; file may be nil.
//
// The warnings name the variables and settings, and never the values, that were skipped on the way because their other half is missing.
func ResolveCredentials(env Lookup, file *File) (Credentials, []string) {
	token := fromEnv(env, "AWS_SESSION_TOKEN").value
	var warnings []string
	for _, p := range []struct {
		id, key         setting
		idName, keyName Origin
		token           string
		origin          Origin
	}{
		{fromEnv(env, "B2_APPLICATION_KEY_ID"), fromEnv(env, "B2_APPLICATION_KEY"), "B2_APPLICATION_KEY_ID", "B2_APPLICATION_KEY", "", "b2_env"},
		{fromEnv(env, "AWS_ACCESS_KEY_ID"), fromEnv(env, "AWS_SECRET_ACCESS_KEY"), "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", token, "aws_env"},
		{file.get("storage.access_key"), file.get("storage.secret_key"), "storage.access_key", "storage.secret_key", "", "config"},
	} {
		switch {
		case p.id.value != "" && p.key.value != "":
			return Credentials{AccessKey: p.id.value, SecretKey: p.key.value, SessionToken: p.token, Origin: p.origin}, warnings
		case p.id.value != "":
			warnings = append(warnings, fmt.Sprintf("%s is set but %s is not: skipped", p.id.origin, p.keyName))
		case p.key.value != "":
			warnings = append(warnings, fmt.Sprintf("%s is set but %s is not: skipped", p.key.origin, p.idName))
		}
	}
	return Credentials{Origin: "aws_chain", Chain: true}, warnings
}
