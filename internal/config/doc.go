// Package config finds the values that a run works with, and says where each came from.
//
// For every value the order is: flag, our own HF_CACHE_SYNC_ variable, the B2_ variables that the Python tool 0.1.0 knows, the configuration file, then the variables
// of others that apply (AWS_, HF_), then the default. Keys are the exception: those of the environment, AWS_ ones too, come before the file's. A value carries its [Origin], so that a wrong one can be traced to what set it.
//
// The package reads nothing itself: the environment, the home folder and the content of the file are handed in. All functions are pure and may be called
// concurrently. No error, warning or printed value ever holds a secret.
//
// A variable that is set to the empty string counts as unset, as it does for the AWS tools: a CI system sets variables to the empty string when a
// secret is missing. The variables of the Hub's clients are the exception: there the empty string is a value, because those clients take it for one.
package config

import (
	"strings"
)

// Lookup returns an environment variable and whether it is set, as os.LookupEnv does.
type Lookup func(name string) (value string, ok bool)

// Origin says for people where a value came from: a flag such as "--remote", a variable such as "B2_ENDPOINT", or "default".
type Origin string

// Default is the origin of a value that nobody gave.
const Default Origin = "default"

// setting is a value that one source has for something.
type setting struct {
	value  string
	origin Origin
}

// first returns the first setting that has a value. The order of the arguments is the order of precedence.
func first(settings ...setting) (setting, bool) {
	for _, s := range settings {
		if s.value != "" {
			return s, true
		}
	}
	return setting{}, false
}

// fromEnv is what a variable says. Space around a value is never meant: it comes from files with CRLF line ends and from pasting.
func fromEnv(env Lookup, name string) setting {
	value, _ := env(name)
	return setting{strings.TrimSpace(value), Origin(name)}
}

// Flag returns the value that the environment gives to a flag: for the flag "dry-run" that of HF_CACHE_SYNC_DRY_RUN. A variable that is empty is unset.
func Flag(env Lookup, name string) (string, bool) {
	s := fromEnv(env, "HF_CACHE_SYNC_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_")))
	return s.value, s.value != ""
}

// Truthy reads a boolean variable of the Hub's clients as they do (huggingface_hub constants.py, _is_true): what is not a word for yes means no.
func Truthy(value string) bool {
	switch strings.ToUpper(value) {
	case "1", "ON", "YES", "TRUE":
		return true
	}
	return false
}
