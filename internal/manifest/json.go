package manifest

import (
	"encoding/json"
	"fmt"
	"io"
)

// Foreign JSON is read token by token, so that what it takes in memory is what was accepted of it, and not what it might have been.

// newDecoder reads numbers as they are written: one that is too large for a float is no mistake under a key that nobody knows.
func newDecoder(r io.Reader) *json.Decoder {
	d := json.NewDecoder(r)
	d.UseNumber()
	return d
}

// opens reads the token that begins an object or a list. It says false for null, which both may be.
func opens(d *json.Decoder, want json.Delim) (bool, error) {
	token, err := d.Token()
	switch {
	case err != nil:
		return false, err
	case token == want:
		return true, nil
	case token == nil:
		return false, nil
	case want == '[':
		return false, fmt.Errorf("%w: %v is no list", ErrInvalid, token)
	default:
		return false, fmt.Errorf("%w: %v is no object", ErrInvalid, token)
	}
}

// eachKey reads an object. do reads the value of one key. null has no keys.
func eachKey(d *json.Decoder, do func(name string) error) error {
	opened, err := opens(d, '{')
	if err != nil || !opened {
		return err
	}
	return restOfObject(d, do)
}

// restOfObject reads what follows the first brace.
func restOfObject(d *json.Decoder, do func(name string) error) error {
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		name, isText := token.(string)
		if !isText {
			return fmt.Errorf("%w: %v is no key", ErrInvalid, token)
		}
		if err := do(name); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

// eachElement reads a list. do reads one element. null has none.
func eachElement(d *json.Decoder, do func() error) error {
	opened, err := opens(d, '[')
	if err != nil || !opened {
		return err
	}
	for d.More() {
		if err := do(); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// skip reads a value that nobody needs, and keeps nothing of it.
func skip(d *json.Decoder) error {
	const deepest = 1000
	for depth := 0; ; {
		token, err := d.Token()
		if err != nil {
			return err
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		switch {
		case depth == 0:
			return nil
		case depth > deepest:
			return fmt.Errorf("%w: it is nested more than %d deep", ErrInvalid, deepest)
		}
	}
}
