// Run an exported model with Paddle Inference: paddle_inference FOLDER, in which sample.npz has been unzipped.
#include <paddle_inference_api.h>

#include <numeric>

#include "check.h"
#include "npy.h"

int main(int argc, char** argv) {
    const std::string folder = argc > 1 ? argv[1] : ".";
    const Array input = read_npy(folder + "/input.npy");
    const Array expected = read_npy(folder + "/output.npy");

    const bool third = std::ifstream(folder + "/inference.json").good();  // Paddle 3 wrote it
    paddle_infer::Config config(folder + (third ? "/inference.json" : "/inference.pdmodel"),
                                folder + "/inference.pdiparams");
    config.DisableGpu();
    config.SetCpuMathLibraryNumThreads(2);
    config.pass_builder()->DeletePass("seqpool_cvm_concat_fuse_pass");  // crashes on wide concatenations (2.6.2)
    auto predictor = paddle_infer::CreatePredictor(config);
    auto tensor = predictor->GetInputHandle(predictor->GetInputNames()[0]);
    tensor->Reshape(std::vector<int>(input.shape.begin(), input.shape.end()));
    tensor->CopyFromCpu(input.values.data());
    predictor->Run();

    auto output = predictor->GetOutputHandle(predictor->GetOutputNames()[0]);
    const auto shape = output->shape();
    std::vector<float> scores(std::accumulate(shape.begin(), shape.end(), 1, std::multiplies<int>()));
    output->CopyToCpu(scores.data());
    return report(scores, expected.values);
}
