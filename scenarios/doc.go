// Package scenarios drives labs through the situations that the claims are
// about. A driver makes a situation and returns what was seen; it expects
// nothing and knows no test framework.
package scenarios
