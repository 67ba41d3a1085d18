// Checkpoints of any shape with random weights: speed and memory do not depend on what a model has learnt.
using System.Runtime.InteropServices;
using IptNative.Kernels;
using IptNative.Model.Config;

namespace IptNative.Model.Checkpoints;

/// <summary>Writes random weights as a Hugging Face folder (config.json, model.safetensors), a piece at a time.</summary>
public static class RandomCheckpoint
{
    private const int Piece = 1 << 18;

    /// <summary>Writes the folder's files.</summary>
    /// <param name="config">The shape; made by <see cref="T5Config.Parse"/>, so that config.json can be written.</param>
    /// <param name="folder">An existing folder.</param>
    /// <param name="type">f32, bf16 or f16.</param>
    /// <remarks>Uniform weights whose products keep the size of their input, as a trained model's do; norms are 1.</remarks>
    /// <exception cref="ArgumentException">Another type.</exception>
    /// <exception cref="IOException">The folder cannot be written.</exception>
    public static void Write(T5Config config, string folder, DType type)
    {
        ArgumentNullException.ThrowIfNull(config);
        if (type is not (DType.F32 or DType.BF16 or DType.F16))
            throw new ArgumentException($"random checkpoint: found {type.Name()}, expected f32, bf16 or f16.", nameof(type));
        AtomicFile.Write(Path.Combine(folder, "config.json"), stream => stream.Write(System.Text.Encoding.UTF8.GetBytes(config.Source.ToJsonString())));
        var writer = new SafetensorsWriter();
        uint seed = 1;
        foreach (T5Parameter parameter in T5Parameters.Of(config))
        {
            uint state = seed++ * 2654435761;
            writer.Add(parameter.Name, type, parameter.Shape, stream => Fill(stream, parameter, type, state));
        }
        writer.Save(Path.Combine(folder, "model.safetensors"));
    }

    private static void Fill(Stream stream, T5Parameter parameter, DType type, uint state)
    {
        bool norm = parameter.Shape.Rank == 1;
        // Embeddings and bias tables are read a row at a time; a matrix sums over its columns. Uniform in +-sqrt(3 / n) has variance 1 / n.
        bool gathered = parameter.Name == T5Parameters.Shared || parameter.Name.EndsWith("relative_attention_bias.weight", StringComparison.Ordinal);
        float scale = gathered ? 1 : norm ? 0 : 2 * MathF.Sqrt(3f / parameter.Shape[1]);
        float[] values = new float[Piece];
        ushort[] narrow = new ushort[type == DType.F32 ? 0 : Piece];
        for (long left = parameter.Shape.Elements; left > 0; left -= Piece)
        {
            int n = (int)Math.Min(left, Piece);
            for (int i = 0; i < n; i++)
            {
                state = state * 1664525 + 1013904223;
                values[i] = norm ? 1 : ((state >> 8) / (float)(1 << 24) - 0.5f) * scale;
            }
            for (int i = 0; i < n && type != DType.F32; i++)
                narrow[i] = type == DType.F16 ? BitConverter.HalfToUInt16Bits((Half)values[i]) : (ushort)(BitConverter.SingleToUInt32Bits(values[i]) >> 16);
            stream.Write(type == DType.F32 ? MemoryMarshal.AsBytes(values.AsSpan(0, n)) : MemoryMarshal.AsBytes(narrow.AsSpan(0, n)));
        }
    }
}
