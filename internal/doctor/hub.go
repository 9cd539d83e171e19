package doctor

import "github.com/hf-cache-sync/hf-cache-sync/internal/config"

// Hub is what was found of the Hub, for those who pull from it what the bucket lacks.
type Hub struct {
	Endpoint    string
	Origin      config.Origin // of the endpoint
	Account     string        // whose the token is; empty if that is not known
	TokenOrigin config.Origin // empty without a token; never the token itself

	Err  error  // why it is of no use
	Hint string // what to do about that
}

// row is a warning at worst: what the bucket has can be pulled without the Hub.
func (h *Hub) row() Row {
	row := Row{Name: "Hub", Detail: h.Endpoint + from(h.Origin)}
	switch {
	case h.Err != nil && h.Endpoint == "":
		row.Status, row.Detail, row.Hint = Warn, h.Err.Error(), h.Hint
	case h.Err != nil:
		row.Status, row.Hint = Warn, h.Hint
		row.Detail += ": " + reason(h.Err)
	case h.TokenOrigin == "":
		row.Detail += ", without a token"
	case h.Account == "":
		row.Detail += ", with the token from " + string(h.TokenOrigin)
	default:
		row.Detail += ", as " + h.Account + " with the token from " + string(h.TokenOrigin)
	}
	return row
}
