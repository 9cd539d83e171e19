package hubclient

import (
	"context"
	"errors"
	"net/http"
)

// Account asks whose the token is. The name is empty without a token, and where the Hub answers but does not tell: mirrors know no accounts. A token that the Hub does not know is
// [ErrBadToken].
func (c *Client) Account(ctx context.Context) (name string, err error) {
	const op = "api/whoami-v2"
	var wire struct {
		Name string `json:"name"`
	}
	_, err = c.json(ctx, op, c.Endpoint+"/api/whoami-v2", &wire)
	failure, ok := errors.AsType[*Error](err)
	switch {
	case err == nil:
		return clip(wire.Name), nil
	case ok && failure.Status == http.StatusUnauthorized && c.Token != "":
		return "", &Error{Op: op, Status: failure.Status, RequestID: failure.RequestID, Kind: ErrBadToken}
	case ok && (failure.Status == http.StatusUnauthorized || failure.Status == http.StatusForbidden || failure.Status == http.StatusNotFound):
		return "", nil
	}
	return "", err
}
