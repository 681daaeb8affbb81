// Classifies a picture with a model that qc compiled, with the context in a value that cleans up after itself.
//
//     qc compile examples/digits/digits_qdq.onnx --name digits -o digits.so
//     c++ -std=c++17 -I. examples/cpp/predict.cpp digits.so -Wl,-rpath,. -o predict
//     ./predict examples/digits/seven.f32
//
// The file holds the model's input as raw 32-bit floats, here 8 x 8 grey values from 0 to 1.

#include "digits.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

struct Destroy {
    void operator()(digits_ctx *context) const { digits_destroy(context); }
};
using Context = std::unique_ptr<digits_ctx, Destroy>;

void check(const Context &context, int status) {
    if (status != 0) {
        throw std::runtime_error(context ? digits_last_error(context.get()) : digits_strerror(status));
    }
}

Context create() {
    digits_ctx *raw = nullptr;
    int status = digits_create(&raw, nullptr);
    Context context(raw);
    check(context, status);
    return context;
}

std::vector<float> read(const char *path, size_t count) {
    std::vector<float> values(count);
    std::ifstream file(path, std::ios::binary);
    if (!file.read(reinterpret_cast<char *>(values.data()), static_cast<std::streamsize>(count * sizeof(float)))) {
        throw std::runtime_error(std::string(path) + ": too short for the model's input");
    }
    return values;
}

} // namespace

int main(int argc, char **argv) try {
    if (argc != 2) {
        std::fprintf(stderr, "usage: %s picture.f32\n", argv[0]);
        return 2;
    }
    Context context = create();
    // The model reads our array in place: it has to live until the last run.
    std::vector<float> pixels = read(argv[1], 8 * 8);
    check(context, digits_in_image(context.get(), pixels.data(), 1));
    check(context, digits_run(context.get()));
    const float *scores = digits_out_prob(context.get());
    const float *best = std::max_element(scores, scores + 10);
    std::printf("class %d, score %.9g, computed on %s\n", static_cast<int>(best - scores), *best,
                digits_tier(context.get()));
    return 0;
} catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
