#include "launch/cli.h"

int main(int argc, char** argv) { return deepflow::run_cli(argc, argv); }
