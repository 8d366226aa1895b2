package page

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"strings"

	"twlab/harness/report"
)

//go:embed style.css
var style string

//go:embed script.js
var behaviour string

// Write writes a whole page around a body. more is a script for what a page needs besides what all have; it
// may be empty. The policy of the page lets no other script run, and loads nothing.
func Write(to io.Writer, title string, body template.HTML, more string) error {
	code := behaviour + more
	policy := fmt.Sprintf("default-src 'none'; img-src data:; style-src '%s'; script-src '%s'; base-uri 'none'; form-action 'none'", sum(style), sum(code))
	var b strings.Builder
	fmt.Fprintf(&b, `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="%s">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>%s</title>
<link rel="icon" href="data:,">
<style>%s</style>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
`, policy, template.HTMLEscapeString(report.Plain(title)), style)
	if _, err := io.WriteString(to, b.String()); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	if _, err := io.WriteString(to, string(body)); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	if _, err := io.WriteString(to, "<script>"+code+"</script>\n</body>\n</html>\n"); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

// sum is the hash by which a policy allows one text and no other.
func sum(text string) string {
	hash := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(hash[:])
}
