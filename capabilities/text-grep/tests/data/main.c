#include <stdio.h>

/* Seconds to wait. */
static int timeout = 30;

int main(int argc, char **argv) {
    (void)argv;
    if (argc > 1)
        timeout = 60;
    printf("waiting\n");
    return 0;
}
