// Package situation has what several families bring about: connections whose ends and clocks
// are as wanted, TIME_WAITs of a known age, and the account of a load.
package situation
