// Congthu is a gateway that enforces the official-mail regulation in front of a
// mail server. Package gateway/cli has its commands.
package main

import (
	"os"

	"congthu/gateway/cli"
)

func main() {
	os.Exit(cli.Main())
}
