package hubclient

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Kinds of failure.
var (
	ErrRepoNotFound     = errors.New("no such repository on the Hub, or no right to see it")
	ErrRevisionNotFound = errors.New("no such revision on the Hub")
	ErrEntryNotFound    = errors.New("no such file on the Hub")
	ErrGated            = errors.New("the repository is gated, and this token has no access")
	ErrBadToken         = errors.New("the Hub does not accept the token")
	ErrDisabled         = errors.New("the repository is disabled on the Hub")
	ErrRateLimited      = errors.New("too many requests to the Hub")
	ErrOffline          = errors.New("the Hub is not asked, because HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE says so")
	ErrUnavailable      = errors.New("the Hub cannot be reached, or is overloaded")
	ErrInvalid          = errors.New("the Hub's answer makes no sense")
)

// Error is a failed request.
type Error struct {
	Op        string // what was wanted, for people: "org/name", "config.json of org/name"
	Status    int    // of the answer; 0 if there was none
	RequestID string // by which the Hub's operators find the request; may be empty
	Kind      error  // one of the Err values, or nil
	Err       error  // the cause, or what the Hub said; may be nil

	// Wait is how long the Hub asked to wait; 0 if it did not.
	Wait time.Duration
}

// Error says what failed and why. It holds no address: those of a content network are as good as keys.
func (e *Error) Error() string {
	var why []string
	if e.Kind != nil {
		why = append(why, e.Kind.Error())
	}
	if e.Err != nil {
		why = append(why, e.Err.Error())
	}
	if e.Status != 0 && (e.Kind == nil || errors.Is(e.Kind, ErrUnavailable)) {
		why = append(why, fmt.Sprintf("it answers %d %s", e.Status, http.StatusText(e.Status)))
	}
	text := e.Op + ": " + strings.Join(why, ": ")
	if e.RequestID != "" {
		text += " (request " + e.RequestID + ")"
	}
	return text
}

// Unwrap gives the kind and the cause.
func (e *Error) Unwrap() []error {
	var errs []error
	for _, err := range []error{e.Kind, e.Err} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// badCredentials is what the Hub says of a token that it does not know (huggingface_hub utils/_http.py).
const badCredentials = "Invalid credentials in Authorization header" //nolint:gosec // it holds none

// kindOf tells failures apart as huggingface_hub does (utils/_http.py, hf_raise_for_status): by the code in a header, which proxies and mirrors may lack, then by the status.
func kindOf(resp *http.Response) error {
	message := resp.Header.Get("X-Error-Message")
	switch code := resp.Header.Get("X-Error-Code"); {
	case code == "RevisionNotFound":
		return ErrRevisionNotFound
	case code == "EntryNotFound":
		return ErrEntryNotFound
	case code == "GatedRepo":
		return ErrGated
	case message == "Access to this resource is disabled.":
		return ErrDisabled
	case code == "RepoNotFound":
		return ErrRepoNotFound
	}
	switch status := resp.StatusCode; {
	case status == http.StatusUnauthorized && message == badCredentials:
		return ErrBadToken
	case status == http.StatusUnauthorized, status == http.StatusNotFound:
		return ErrRepoNotFound
	case status == http.StatusForbidden:
		return ErrGated
	case status == http.StatusTooManyRequests:
		return ErrRateLimited
	case status == http.StatusRequestTimeout, status >= http.StatusInternalServerError:
		return ErrUnavailable
	}
	return nil
}
