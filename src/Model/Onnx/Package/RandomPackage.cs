// Packages of any shape and format with random weights: speed and memory do not depend on what a model has learnt. Written in the target format at once.
using System.Runtime.InteropServices;
using System.Text;
using IptNative.Kernels;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;

namespace IptNative.Model.Onnx.Package;

/// <summary>Writes random weights as a package, a piece at a time.</summary>
/// <remarks>Uniform weights whose products keep the size of their input, as a trained model's do; norms are 1.</remarks>
public static class RandomPackage
{
    /// <summary>Bytes that a package of a shape and format takes on disk.</summary>
    /// <param name="config">The shape.</param>
    /// <param name="format">F32, BF16, F16, I8 or U4.</param>
    /// <returns>Weights and graph.</returns>
    public static long Bytes(T5Config config, DType format) => PackageExporter.Bytes(PackageExporter.Plan(config, format));

    /// <summary>Writes the package's files.</summary>
    /// <param name="config">The shape; made by <see cref="T5Config.Parse"/>, so that config.json can be written.</param>
    /// <param name="folder">An existing, empty folder.</param>
    /// <param name="format">F32, BF16, F16, I8 or U4.</param>
    /// <param name="cancellation">Stops; the folder is then incomplete.</param>
    /// <exception cref="ArgumentException">Another format.</exception>
    /// <exception cref="IOException">The folder cannot be written, or the disk is too full.</exception>
    public static void Write(T5Config config, string folder, DType format, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(config);
        if (WeightFormats.Parse(WeightFormats.Name(format)) is null)
            throw new ArgumentException($"random package: found {format.Name()}, expected one of {string.Join(", ", WeightFormats.Names)}.", nameof(format));
        IReadOnlyList<PackageTensor> plan = PackageExporter.Plan(config, format);
        PackageExporter.RequireFreeSpace(folder, PackageExporter.Bytes(plan), new DriveInfo(folder).AvailableFreeSpace);
        PackageFile data = PackageExporter.WriteData(new RandomTensors(), Path.Combine(folder, PackageManifest.DataFile), plan, null, cancellation);
        PackageExporter.WriteRest(folder, config, Encoding.UTF8.GetBytes(config.Source.ToJsonString()), new PackageSource("random", []), plan, format, data, cancellation);
    }

    private sealed class RandomTensors : ITensorBytes
    {
        private const int Piece = 1 << 17;

        // Variances of the codes 0 to 15 and -128 to 127, all equally likely.
        private const float U4Variance = 21.25f;
        private const float I8Variance = 5461.25f;

        // Zero points 8 and 7 in turn: the codes' mean is 7.5, and the weights' is then 0.
        private const byte ZeroPoints = 0x78;

        private readonly float[] _values = new float[Piece];
        private readonly byte[] _bytes = new byte[Piece * sizeof(float)];
        private ulong _state = 1;
        private PackageTensor? _codes;

        public void Write(PackageTensor tensor, ByteSink put)
        {
            _state = (ulong)tensor.Offset * 2 + 0x9E3779B97F4A7C15;
            if (WeightFormats.IsQuantised(tensor.DType) && !tensor.Name.EndsWith(PackageTensor.ZeroPointOf(""), StringComparison.Ordinal))
                _codes = tensor;
            for (long left = tensor.Shape.Elements; left > 0; left -= Piece)
                put(Next(tensor, (int)Math.Min(left, Piece)));
        }

        private ReadOnlySpan<byte> Next(PackageTensor tensor, int elements)
        {
            Span<byte> bytes = _bytes.AsSpan(0, (int)tensor.DType.ByteLength(elements));
            if (tensor.Name.EndsWith(PackageTensor.ZeroPointOf(""), StringComparison.Ordinal))
            {
                bytes.Fill(ZeroPoints);
                return bytes;
            }
            if (WeightFormats.IsQuantised(tensor.DType))
            {
                foreach (ref ulong word in MemoryMarshal.Cast<byte, ulong>(_bytes.AsSpan(0, (bytes.Length + 7) / 8 * 8)))
                    word = Random();
                return bytes;
            }
            Span<float> values = _values.AsSpan(0, elements);
            if (_codes is { } codes && tensor.Name == PackageTensor.ScaleOf(codes.Name))
                values.Fill(MathF.Sqrt(1 / (codes.Shape[1] * (codes.DType == DType.U4 ? U4Variance : I8Variance))));
            else if (tensor.Shape.Rank == 1)
                values.Fill(1);
            else
                Uniform(tensor, values);
            return Narrowed(values, tensor.DType, bytes);
        }

        // Embeddings and bias tables are read a row at a time; a matrix sums over its columns. Uniform in +-sqrt(3 / n) has variance 1 / n.
        private void Uniform(PackageTensor tensor, Span<float> values)
        {
            bool gathered = tensor.Name == T5Parameters.Shared || tensor.Name.EndsWith("relative_attention_bias.weight", StringComparison.Ordinal);
            float scale = (gathered ? 1 : 2 * MathF.Sqrt(3f / tensor.Shape[1])) / (1 << 24);
            foreach (ref float value in values)
                value = ((int)(Random() >> 40) - (1 << 23)) * scale;
        }

        private static ReadOnlySpan<byte> Narrowed(ReadOnlySpan<float> values, DType type, Span<byte> bytes)
        {
            if (type == DType.F32)
                return MemoryMarshal.AsBytes(values);
            Span<ushort> narrow = MemoryMarshal.Cast<byte, ushort>(bytes);
            for (int i = 0; i < values.Length; i++)
                narrow[i] = type == DType.F16 ? BitConverter.HalfToUInt16Bits((Half)values[i]) : WeightConverter.ToBFloat16(values[i]);
            return bytes;
        }

        // xorshift64: a few operations for eight bytes. Source: Marsaglia 2003.
        private ulong Random()
        {
            _state ^= _state << 13;
            _state ^= _state >> 7;
            _state ^= _state << 17;
            return _state;
        }
    }
}
