package store

import (
	"errors"
	"fmt"
)

// Kinds of failure.
var (
	ErrNotFound    = errors.New("not found")
	ErrExists      = errors.New("precondition failed")
	ErrDenied      = errors.New("access denied")
	ErrBadConfig   = errors.New("bad configuration")
	ErrUnavailable = errors.New("unavailable")
	ErrUnsupported = errors.New("not supported by this store")
	ErrNoSpace     = errors.New("no space left")
	ErrBadRange    = errors.New("range not satisfiable")
	ErrNotObject   = errors.New("not an object") // what stands under the key is something else: a link that leads out of the folder, a pipe
	ErrBadDigest   = errors.New("content does not match its checksum")
)

// Kinds that say more than the one they wrap, from stores that can tell. Most callers decide by the wider kind; who has to name the mistake decides by these.
var (
	ErrNoBucket      = fmt.Errorf("there is no such bucket: %w", ErrBadConfig)
	ErrWrongRegion   = fmt.Errorf("the bucket is in another region: %w", ErrBadConfig) // or on another endpoint: services do not tell which
	ErrWrongEndpoint = fmt.Errorf("what answers is no store: %w", ErrBadConfig)
	ErrSetting       = fmt.Errorf("the store does not take what the configuration asks for: %w", ErrBadConfig)

	ErrNoFolder = fmt.Errorf("the bucket's folder does not exist: %w", ErrUnavailable) // such as a share that is not mounted; trying again within seconds is in vain

	ErrNoCredentials = fmt.Errorf("no credentials were found: %w", ErrDenied)
	ErrUnknownKey    = fmt.Errorf("the store does not know the access key: %w", ErrDenied)
	ErrWrongSecret   = fmt.Errorf("the secret does not belong to the access key: %w", ErrDenied)
	ErrExpired       = fmt.Errorf("the credentials have expired: %w", ErrDenied)
	ErrClockSkew     = fmt.Errorf("the clocks differ too much: %w", ErrDenied)
)

// Error is a failed operation on a store.
type Error struct {
	Op   string // "get", "stat", "list", "put", "delete", "start upload", …
	Key  string // empty for operations on the whole bucket
	Code string // the store's own code, such as "SlowDown"; may be empty
	Kind error  // one of the Err values of this package, or nil
	Err  error  // the cause; may be nil

	// RetryAfter is how many seconds the store asked to wait; 0 if it did not.
	RetryAfter int
}

// Error says what failed on which key, and why.
func (e *Error) Error() string {
	why := e.Err
	switch {
	case why == nil && e.Kind != nil:
		why = e.Kind
	case why == nil:
		why = errors.New("unknown reason")
	}
	where := e.Op
	if e.Key != "" {
		where += " " + e.Key
	}
	if e.Code != "" {
		return fmt.Sprintf("%s: %v (%s)", where, why, e.Code)
	}
	return fmt.Sprintf("%s: %v", where, why)
}

// Unwrap gives both the kind and the cause to errors.Is and errors.As.
func (e *Error) Unwrap() []error {
	var errs []error
	if e.Kind != nil {
		errs = append(errs, e.Kind)
	}
	if e.Err != nil {
		errs = append(errs, e.Err)
	}
	return errs
}

// CheckKey refuses a key that breaks the rules of the package comment, with [ErrBadConfig].
func CheckKey(op, key string) error {
	if why := badKey(key); why != "" {
		return &Error{Op: op, Key: key, Kind: ErrBadConfig, Err: errors.New(why)}
	}
	return nil
}

func badKey(key string) string {
	if key == "" {
		return "the key is empty"
	}
	start := 0
	for i := 0; i <= len(key); i++ {
		if i < len(key) && key[i] != '/' {
			if key[i] < 0x20 || key[i] == 0x7f {
				return "the key holds a control character"
			}
			continue
		}
		switch key[start:i] {
		case "":
			return "the key has an empty element"
		case ".", "..":
			return "the key has a dot element"
		}
		start = i + 1
	}
	return ""
}
