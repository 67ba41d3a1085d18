// What every subspace offers: z to prompts, the gradient back, and for some prompts to z. Deliberately not: training, files, the model.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Tuning.Prompts;

namespace IptNative.Tuning.Subspaces;

/// <summary>A map from d_I numbers to prompts of n tokens, for any number of prompts at once.</summary>
/// <remarks>
/// Works in standardised units inside; <c>scales</c> [rows] turn them into the model's units at the border (empty: the header's scale for all).
/// Not thread-safe: Decode keeps what DecodeBackward needs.
/// </remarks>
public abstract class PromptSubspace : IDisposable
{
    private readonly List<(string Name, TensorShape Shape, Tensor Value)> _tensors = [];
    private readonly List<DeviceBuffer> _buffers = [];
    private readonly GrowingTensor _scaled;
    private readonly GrowingTensor _ones;
    private int _decodedRows;

    private protected PromptSubspace(ComputeDevice device, SubspaceHeader header)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(header);
        header.Validate();
        (Device, Header) = (device, header);
        _scaled = new GrowingTensor(device, DType.F32, "prompts in standardised units");
        _ones = new GrowingTensor(device, DType.F32, "ones");
    }

    /// <summary>Where its tensors lie.</summary>
    public ComputeDevice Device { get; }

    /// <summary>What it is and is for.</summary>
    public SubspaceHeader Header { get; internal set; }

    /// <summary>d_I.</summary>
    public int IntrinsicDim => Header.IntrinsicDim;

    /// <summary>n*D.</summary>
    public int PromptElements => Header.PromptElements;

    /// <summary>True where <see cref="Encode(Tensor, int, Tensor, ReadOnlySpan{float})"/> works.</summary>
    public abstract bool CanEncode { get; }

    /// <summary>Prompts from intrinsic vectors; what the gradient needs is kept.</summary>
    /// <param name="z">f32 [rows, d_I].</param>
    /// <param name="rows">1 or more.</param>
    /// <param name="prompts">f32 [rows, n*D], overwritten, in the model's units.</param>
    /// <param name="scales">One per row, or empty for the header's scale.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    public void Decode(Tensor z, int rows, Tensor prompts, ReadOnlySpan<float> scales = default)
    {
        CheckRows("Decode", rows, scales);
        Check("Decode", z, "z", rows, IntrinsicDim);
        Check("Decode", prompts, "prompts", rows, PromptElements);
        DecodeStandardised(z, rows, prompts);
        Multiply(prompts, prompts, rows, scales);
        _decodedRows = rows;
    }

    /// <summary>The gradient at z, for the last <see cref="Decode(Tensor, int, Tensor, ReadOnlySpan{float})"/>.</summary>
    /// <param name="dPrompts">f32 [rows, n*D], the gradient at the prompts in the model's units; kept.</param>
    /// <param name="rows">As in that Decode.</param>
    /// <param name="dz">f32 [rows, d_I], overwritten.</param>
    /// <param name="scales">As in that Decode.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="InvalidOperationException">There was no Decode of as many rows.</exception>
    public void DecodeBackward(Tensor dPrompts, int rows, Tensor dz, ReadOnlySpan<float> scales = default)
    {
        CheckRows("DecodeBackward", rows, scales);
        Check("DecodeBackward", dPrompts, "dPrompts", rows, PromptElements);
        Check("DecodeBackward", dz, "dz", rows, IntrinsicDim);
        if (rows != _decodedRows)
            throw new InvalidOperationException($"{GetType().Name}.DecodeBackward: found {rows} rows, the last Decode had {_decodedRows}. Decode first.");
        DecodeStandardisedBackward(Standardised(dPrompts, rows, scales), rows, dz);
    }

    /// <summary>Intrinsic vectors from prompts.</summary>
    /// <param name="prompts">f32 [rows, n*D], in the model's units; kept.</param>
    /// <param name="rows">1 or more.</param>
    /// <param name="z">f32 [rows, d_I], overwritten.</param>
    /// <param name="scales">One per row, or empty for the header's scale.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">A random projection has no inverse.</exception>
    public void Encode(Tensor prompts, int rows, Tensor z, ReadOnlySpan<float> scales = default)
    {
        if (!CanEncode)
            throw new NotSupportedException($"{GetType().Name}.Encode: a {SubspaceHeader.Name(Header.Kind)} subspace only maps from z to prompts. Tune z instead.");
        CheckRows("Encode", rows, scales);
        Check("Encode", prompts, "prompts", rows, PromptElements);
        Check("Encode", z, "z", rows, IntrinsicDim);
        EncodeStandardised(Inverse(prompts, rows, scales), rows, z);
    }

    /// <summary>One prompt.</summary>
    /// <param name="z">d_I numbers.</param>
    /// <param name="scale">Its scale; null for the header's.</param>
    /// <returns>The prompt, in the model's units.</returns>
    /// <exception cref="ArgumentException">z has another length.</exception>
    public Prompt Decode(ReadOnlySpan<float> z, float? scale = null)
    {
        if (z.Length != IntrinsicDim)
            throw new ArgumentException($"{GetType().Name}.Decode: z has {z.Length} numbers, expected d_I = {IntrinsicDim}.", nameof(z));
        using DeviceBuffer input = Device.Allocate(DType.F32, IntrinsicDim, "z"), output = Device.Allocate(DType.F32, PromptElements, "prompt");
        input.Tensor.CopyFrom(z);
        Decode(input.Tensor, 1, output.Tensor, scale is { } s ? [s] : []);
        return new Prompt(output.Tensor.ToArray<float>(), Header.PromptLength, Header.DModel);
    }

    /// <summary>One intrinsic vector.</summary>
    /// <param name="prompt">A prompt of the subspace's length and width.</param>
    /// <param name="scale">Its scale; null for the one that the standardisation gives a prompt of an unseen task.</param>
    /// <returns>d_I numbers.</returns>
    /// <exception cref="ArgumentException">The prompt has another shape.</exception>
    /// <exception cref="NotSupportedException">A random projection has no inverse.</exception>
    public float[] Encode(Prompt prompt, float? scale = null)
    {
        ArgumentNullException.ThrowIfNull(prompt);
        if (prompt.Length != Header.PromptLength || prompt.DModel != Header.DModel)
            throw new ArgumentException($"{GetType().Name}.Encode: the prompt has shape [{prompt.Length}, {prompt.DModel}], expected [{Header.PromptLength}, {Header.DModel}].", nameof(prompt));
        using DeviceBuffer input = Device.Allocate(DType.F32, PromptElements, "prompt"), output = Device.Allocate(DType.F32, IntrinsicDim, "z");
        input.Tensor.CopyFrom<float>(prompt.Values);
        Encode(input.Tensor, 1, output.Tensor, [scale ?? Header.Standardisation.ScaleOf(prompt)]);
        return output.Tensor.ToArray<float>();
    }

    /// <summary>Writes the file: see <see cref="SubspaceFile"/>.</summary>
    /// <param name="path">Made or replaced, whole or not at all.</param>
    /// <exception cref="IOException">The folder cannot be written.</exception>
    public void Save(string path) => SubspaceFile.Save(this, path);

    /// <summary>Reads a file that <see cref="Save"/> wrote.</summary>
    /// <param name="device">Where its tensors shall lie.</param>
    /// <param name="path">The file.</param>
    /// <returns>The subspace; dispose it.</returns>
    /// <exception cref="InvalidDataException">The file is damaged or no subspace.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public static PromptSubspace Load(ComputeDevice device, string path) => SubspaceFile.Load(device, path);

    /// <inheritdoc/>
    public void Dispose()
    {
        _scaled.Dispose();
        _ones.Dispose();
        foreach (DeviceBuffer buffer in _buffers)
            buffer.Dispose();
        DisposeScratch();
        GC.SuppressFinalize(this);
    }

    /// <summary>Its tensors by the names of its file.</summary>
    internal IReadOnlyList<(string Name, TensorShape Shape, Tensor Value)> Tensors => _tensors;

    /// <summary>Called when all tensors have their values: from a file, or drawn.</summary>
    internal virtual void Complete(string source)
    {
    }

    private protected abstract void DecodeStandardised(Tensor z, int rows, Tensor prompts);

    private protected abstract void DecodeStandardisedBackward(Tensor dPrompts, int rows, Tensor dz);

    private protected abstract void EncodeStandardised(Tensor prompts, int rows, Tensor z);

    private protected abstract void DisposeScratch();

    private protected Tensor AddTensor(string name, DType type, params ReadOnlySpan<long> dims)
    {
        var shape = new TensorShape(dims);
        DeviceBuffer buffer = Device.Allocate(type, shape.Elements, $"subspace {name}");
        _buffers.Add(buffer);
        _tensors.Add((name, shape, buffer.Tensor));
        return buffer.Tensor;
    }

    internal Tensor Ones(int rows)
    {
        Tensor ones = _ones.Take(rows);
        Elementwise.Fill(Device, ones, rows, 1);
        return ones;
    }

    /// <summary>prompts / scale; the same tensor where all scales are 1.</summary>
    internal Tensor Inverse(Tensor prompts, int rows, ReadOnlySpan<float> scales)
    {
        if (IsOne(scales))
            return prompts;
        Tensor scaled = _scaled.Take((long)rows * PromptElements);
        for (int r = 0; r < rows; r++)
            Elementwise.Scale(Device, Row(prompts, r), Row(scaled, r), PromptElements, 1 / ScaleOf(scales, r));
        return scaled;
    }

    /// <summary>y = scale x, row by row.</summary>
    internal void Multiply(Tensor x, Tensor y, int rows, ReadOnlySpan<float> scales)
    {
        if (IsOne(scales) && x == y)
            return;
        for (int r = 0; r < rows; r++)
            Elementwise.Scale(Device, Row(x, r), Row(y, r), PromptElements, ScaleOf(scales, r));
    }

    internal float ScaleOf(ReadOnlySpan<float> scales, int row) => scales.IsEmpty ? Header.Standardisation.Scale : scales[row];

    internal void CheckRows(string what, int rows, ReadOnlySpan<float> scales)
    {
        if (rows < 1)
            throw new ArgumentException($"{GetType().Name}.{what}: rows is {rows}, expected 1 or more.", nameof(rows));
        if (!scales.IsEmpty && scales.Length != rows)
            throw new ArgumentException($"{GetType().Name}.{what}: found {scales.Length} scales, expected one for each of {rows} rows, or none.", nameof(scales));
        foreach (float scale in scales)
        {
            if (!(scale > 0 && float.IsFinite(scale)))
                throw new ArgumentException($"{GetType().Name}.{what}: found a scale of {scale}, expected finite numbers above 0.", nameof(scales));
        }
    }

    internal void Check(string what, Tensor tensor, string name, int rows, int columns)
    {
        if (tensor.DType != DType.F32 || tensor.Elements != (long)rows * columns || !ReferenceEquals(tensor.Device, Device))
        {
            throw new ArgumentException(
                $"{GetType().Name}.{what}: {name} holds {tensor.Elements} {tensor.DType.Name()} on {tensor.Device?.Name ?? "no device"}, expected [{rows}, {columns}] f32 on {Device.Name}.", name);
        }
    }

    private Tensor Standardised(Tensor dPrompts, int rows, ReadOnlySpan<float> scales)
    {
        if (IsOne(scales))
            return dPrompts;
        // forward: prompt = scale s, so: ds = scale dprompt.
        Tensor scaled = _scaled.Take((long)rows * PromptElements);
        Multiply(dPrompts, scaled, rows, scales);
        return scaled;
    }

    private bool IsOne(ReadOnlySpan<float> scales) => scales.IsEmpty ? Header.Standardisation.Scale == 1 : !scales.ContainsAnyExcept(1);

    private Tensor Row(Tensor table, int row) => table.Slice((long)row * PromptElements, PromptElements);
}
