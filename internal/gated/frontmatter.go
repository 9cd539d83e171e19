package gated

import (
	"bytes"
	"strings"

	"go.yaml.in/yaml/v3"
)

// frontMatter returns the key of a README's YAML block that says that the repository is gated. A block that is not YAML says nothing.
func frontMatter(readme []byte) (string, bool) {
	var doc yaml.Node // a node, not values: aliases are not followed, however many there are
	if yaml.Unmarshal(block(readme), &doc) != nil || len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return "", false
	}
	pairs := doc.Content[0].Content
	for i := 0; i+1 < len(pairs); i += 2 {
		key, value := pairs[i], pairs[i+1]
		if key.Kind != yaml.ScalarNode {
			continue
		}
		switch {
		case strings.HasPrefix(key.Value, "extra_gated_"):
			return key.Value[:min(len(key.Value), 60)], true
		case key.Value == "gated" && !isNo(value):
			return key.Value, true
		}
	}
	return "", false
}

// block is what stands between the first line of three dashes and the next: the Hub's clients let only space stand before (huggingface_hub, repocard.py,
// REGEX_YAML_BLOCK).
func block(readme []byte) []byte {
	readme = bytes.TrimPrefix(readme, []byte("\xef\xbb\xbf"))
	var begin, at int
	for line := range bytes.Lines(readme) {
		at += len(line)
		text := string(bytes.TrimRight(line, " \t\r\n"))
		switch {
		case begin > 0 && text == "---":
			return readme[begin : at-len(line)]
		case begin > 0:
		case strings.TrimLeft(text, " \t") == "---":
			begin = at
		case text != "":
			return nil
		}
	}
	return nil
}

func isNo(value *yaml.Node) bool {
	if value.Kind == yaml.AliasNode {
		value = value.Alias
	}
	if value.Kind != yaml.ScalarNode {
		return false
	}
	switch strings.ToLower(value.Value) {
	case "", "~", "null", "false", "no", "off":
		return true
	}
	return false
}
