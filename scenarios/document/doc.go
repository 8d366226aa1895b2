// Package document has the sentences of the document, what is true of each, and which rules
// prove it. CLAIMS.md and RULES.md are made of it.
package document
