/*
 * Classifies a picture with a model that qc compiled. Nothing but the shared object is needed:
 *
 *     qc compile examples/digits/digits_qdq.onnx --name digits -o digits.so
 *     cc -I. examples/c/predict.c digits.so -Wl,-rpath,. -o predict
 *     ./predict examples/digits/seven.f32
 *
 * The file holds the model's input as raw 32-bit floats, here 8 x 8 grey values from 0 to 1.
 */
#include "digits.h"

#include <stdio.h>

static int fail(const char *what, int status)
{
    fprintf(stderr, "%s: %s\n", what, digits_strerror(status));
    return 1;
}

int main(int argc, char **argv)
{
    const digits_io *in = digits_input_info(0);
    const digits_io *out = digits_output_info(0);
    const size_t classes = out->bytes_per_item / sizeof(float);
    const size_t batch = 1;
    digits_ctx *ctx = NULL;
    FILE *file;
    float *pixels;
    const float *scores;
    size_t best = 0, got, i;
    int status;

    if (argc != 2) {
        fprintf(stderr, "usage: %s picture.f32\n", argv[0]);
        return 2;
    }
    status = digits_create(&ctx, NULL);
    if (status != DIGITS_OK)
        return fail("create", status);

    /* The context lends a buffer for the input; digits_bind_input would read one of ours without a copy. */
    pixels = digits_input(ctx, 0, batch);
    if (!pixels) {
        fprintf(stderr, "input: %s\n", digits_last_error(ctx));
        return 1;
    }
    file = fopen(argv[1], "rb");
    if (!file) {
        perror(argv[1]);
        return 4;
    }
    got = fread(pixels, 1, in->bytes_per_item, file);
    fclose(file);
    if (got != in->bytes_per_item) {
        fprintf(stderr, "%s: %zu bytes, %zu are needed\n", argv[1], got, (size_t)in->bytes_per_item);
        return 3;
    }

    status = digits_run(ctx);
    if (status != DIGITS_OK)
        return fail("run", status);
    scores = digits_output(ctx, 0);
    for (i = 1; i < classes; i++)
        if (scores[i] > scores[best])
            best = i;
    printf("class %zu, score %.9g, computed on %s\n", best, scores[best], digits_tier(ctx));
    digits_destroy(ctx);
    return 0;
}
