// Runs a package's model.onnx in ONNX Runtime as any other program would: by path, nothing optimised for us.
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

namespace IptNative.Model.Tests.Forward;

internal sealed class PlainGraph : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("iptnative-graph-").FullName;
    private readonly InferenceSession _session;

    public PlainGraph(MemoryCheckpoint checkpoint)
    {
        using var options = new SessionOptions { GraphOptimizationLevel = GraphOptimizationLevel.ORT_DISABLE_ALL };
        _session = new InferenceSession(checkpoint.WritePackage(_folder), options);
    }

    public float[] Logits(float[] embeds, int[] mask, int[] decoderIds, int batch, int source, int target)
    {
        int width = embeds.Length / (batch * source);
        using var results = _session.Run([
            NamedOnnxValue.CreateFromTensor("inputs_embeds", new DenseTensor<float>(embeds, [batch, source, width])),
            NamedOnnxValue.CreateFromTensor("attention_mask", new DenseTensor<long>(mask.Select(v => (long)v).ToArray(), [batch, source])),
            NamedOnnxValue.CreateFromTensor("decoder_input_ids", new DenseTensor<long>(decoderIds.Select(v => (long)v).ToArray(), [batch, target]))]);
        return [.. results[0].AsEnumerable<float>()];
    }

    public void Dispose()
    {
        _session.Dispose();
        Directory.Delete(_folder, true);
    }
}
