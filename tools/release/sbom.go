package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
)

// The parts of CycloneDX 1.6 that are used:
// https://cyclonedx.org/docs/1.6/json/
type (
	bom struct {
		Schema       string       `json:"$schema"`
		Format       string       `json:"bomFormat"`
		SpecVersion  string       `json:"specVersion"`
		Serial       string       `json:"serialNumber"`
		Version      int          `json:"version"`
		Metadata     metadata     `json:"metadata"`
		Components   []component  `json:"components"`
		Dependencies []dependency `json:"dependencies"`
	}
	metadata struct {
		Timestamp string    `json:"timestamp,omitempty"`
		Component component `json:"component"`
	}
	component struct {
		Type       string     `json:"type"`
		Ref        string     `json:"bom-ref"`
		Name       string     `json:"name"`
		Version    string     `json:"version"`
		Hashes     []digest   `json:"hashes,omitempty"`
		Licences   []licence  `json:"licenses"`
		Purl       string     `json:"purl"`
		Properties []property `json:"properties,omitempty"`
	}
	digest struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	// licence is an expression of SPDX identifiers.
	licence struct {
		Expression string `json:"expression"`
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	dependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn,omitempty"`
	}
)

// standard is how the table of licences calls what comes with Go.
const standard = "The Go standard library and runtime"

// sbom writes what a binary is made of. What that is the binary says itself, since
// the Go linker has recorded it; the licences are those that scripts/supply.sh has
// judged.
func sbom(binary, table, file string) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	known, err := licences(table)
	if err != nil {
		return err
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	sum := sha256.Sum256(data)
	subject := component{
		Type: "application", Name: "hf-cache-sync", Version: info.Main.Version, Purl: purl(info.Main.Path, info.Main.Version),
		Licences:   []licence{{"MIT"}},
		Hashes:     []digest{{"SHA-256", hex.EncodeToString(sum[:])}},
		Properties: []property{{"hf-cache-sync:platform", settings["GOOS"] + "/" + settings["GOARCH"]}, {"hf-cache-sync:commit", settings["vcs.revision"]}},
	}
	subject.Ref = subject.Purl
	b := bom{
		Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", SpecVersion: "1.6", Version: 1,
		// A document of other content has another number, and the same has the same.
		Serial:   uuid(sum),
		Metadata: metadata{settings["vcs.time"], subject},
	}
	goItself := &debug.Module{Path: "std", Version: strings.TrimPrefix(info.GoVersion, "go")}
	on := dependency{Ref: subject.Ref}
	var unknown []error
	for _, m := range append([]*debug.Module{goItself}, info.Deps...) {
		row := [2]string{m.Path, m.Version}
		if m == goItself {
			row = [2]string{standard, ""}
		}
		if m.Replace != nil || known[row] == "" {
			unknown = append(unknown, fmt.Errorf("%s %s: %s does not say its licence", m.Path, m.Version, filepath.Base(table)))
			continue
		}
		c := component{
			Type: "library", Name: m.Path, Version: m.Version, Purl: purl(m.Path, m.Version), Licences: []licence{{known[row]}},
		}
		c.Ref = c.Purl
		if m.Sum != "" {
			c.Properties = []property{{"hf-cache-sync:go.sum", m.Sum}}
		}
		b.Components = append(b.Components, c)
		b.Dependencies = append(b.Dependencies, dependency{Ref: c.Ref})
		on.DependsOn = append(on.DependsOn, c.Ref)
	}
	if err = errors.Join(unknown...); err != nil {
		return err
	}
	b.Dependencies = append([]dependency{on}, b.Dependencies...)
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	return write(file, append(text, '\n'))
}

// licences reads the table of docs/dependencies.md: an SPDX expression for each
// module and version.
func licences(table string) (map[[2]string]string, error) {
	data, err := os.ReadFile(table)
	if err != nil {
		return nil, err
	}
	known := map[[2]string]string{}
	for line := range strings.Lines(string(data)) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 {
			continue
		}
		known[[2]string{strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2])}] = strings.ReplaceAll(strings.TrimSpace(cells[3]), ", ", " AND ")
	}
	return known, nil
}

// purl names a module as https://github.com/package-url/purl-spec says.
func purl(path, version string) string {
	return "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")
}

// uuid makes a number of a digest, in the form that RFC 9562 leaves to its user
// (version 8).
func uuid(sum [sha256.Size]byte) string {
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	h := hex.EncodeToString(sum[:16])
	return "urn:uuid:" + h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
