// Run an exported model with ONNX Runtime: onnxruntime FOLDER, in which sample.npz has been unzipped.
#include <onnxruntime_cxx_api.h>

#include "check.h"
#include "npy.h"

int main(int argc, char** argv) {
    const std::string folder = argc > 1 ? argv[1] : ".";
    Array input = read_npy(folder + "/input.npy");
    const Array expected = read_npy(folder + "/output.npy");

    Ort::Env environment(ORT_LOGGING_LEVEL_WARNING, "paddleskel");
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(2);
    Ort::Session session(environment, (folder + "/inference.onnx").c_str(), options);
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    Ort::Value tensor = Ort::Value::CreateTensor<float>(memory, input.values.data(), input.values.size(),
                                                        input.shape.data(), input.shape.size());
    Ort::AllocatorWithDefaultOptions allocator;
    const auto input_name = session.GetInputNameAllocated(0, allocator);
    const auto output_name = session.GetOutputNameAllocated(0, allocator);
    const char* inputs[] = {input_name.get()};
    const char* outputs[] = {output_name.get()};
    const auto results = session.Run(Ort::RunOptions{nullptr}, inputs, &tensor, 1, outputs, 1);

    const float* scores = results[0].GetTensorData<float>();
    return report({scores, scores + results[0].GetTensorTypeAndShapeInfo().GetElementCount()}, expected.values);
}
