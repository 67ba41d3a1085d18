// Subspaces that are a matrix and an offset: random, and the principal components of trained prompts.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Optimizers;
using IptNative.Tuning.Prompts;

namespace IptNative.Tuning.Subspaces;

/// <summary>s = A z + o, s a prompt in standardised units.</summary>
/// <remarks>
/// Random: A's numbers are normal with variance 1/d_I, so that z of unit normals gives a prompt of root mean square 1 about o.
/// PCA: A's columns are the principal directions times their standard deviation, so that the source prompts have z of variance 1; encoding is the projection.
/// Source: Li et al. 2018, Measuring the Intrinsic Dimension (random); Jolliffe, Principal Component Analysis.
/// </remarks>
public sealed class LinearSubspace : PromptSubspace
{
    // Below this part of the largest, a standard deviation is rounding: prompts in f32, sums of up to 10^5 squares.
    private const double LeastDeviation = 1e-5;

    private readonly DenseLayer _layer;

    // PCA only: A's columns over their squared lengths, and minus the offset through them.
    private DeviceBuffer? _dual, _dualBias;

    internal LinearSubspace(ComputeDevice device, SubspaceHeader header)
        : base(device, header)
    {
        if (header.Kind is not (SubspaceKind.RandomLinear or SubspaceKind.Pca))
            throw new ArgumentException($"LinearSubspace: the header's kind is {SubspaceHeader.Name(header.Kind)}, expected random-linear or pca.", nameof(header));
        _layer = new DenseLayer(AddTensor("basis", DType.F32, PromptElements, IntrinsicDim), AddTensor("offset", DType.F32, PromptElements), IntrinsicDim, PromptElements);
    }

    /// <inheritdoc/>
    public override bool CanEncode => Header.Kind == SubspaceKind.Pca;

    /// <summary>A random one.</summary>
    /// <param name="device">Where its tensors shall lie.</param>
    /// <param name="header">Its sizes, scale and model; kind and seed are set.</param>
    /// <param name="seed">Of the numbers.</param>
    /// <param name="origin">The prompt of z = 0, in the model's units; null for zeros.</param>
    /// <returns>The subspace; dispose it.</returns>
    /// <exception cref="ArgumentException">The header's numbers make no subspace, or the origin has another shape.</exception>
    public static LinearSubspace CreateRandom(ComputeDevice device, SubspaceHeader header, long seed, Prompt? origin = null)
    {
        ArgumentNullException.ThrowIfNull(header);
        var subspace = new LinearSubspace(device, SubspaceFile.RandomHeader(header, SubspaceKind.RandomLinear, seed));
        var random = new SeededRandom(seed);
        double deviation = 1 / Math.Sqrt(header.IntrinsicDim);
        SubspaceFile.Fill(subspace._layer.Weight, () => (float)(deviation * random.NextNormal()));
        SubspaceFile.FillOrigin(subspace, subspace._layer.Bias, origin);
        return subspace;
    }

    /// <summary>The principal components of trained prompts.</summary>
    /// <param name="device">Where its tensors shall lie.</param>
    /// <param name="header">Its sizes, scale and model; kind and source tasks are set.</param>
    /// <param name="prompts">Each task's prompts, one or several runs; at least two tasks, and more than d_I prompts.</param>
    /// <returns>The subspace; dispose it.</returns>
    /// <exception cref="ArgumentException">Too few tasks or prompts, prompts that span fewer than d_I dimensions, or of another shape.</exception>
    public static LinearSubspace CreatePca(ComputeDevice device, SubspaceHeader header, IReadOnlyDictionary<string, IReadOnlyList<Prompt>> prompts)
    {
        ArgumentNullException.ThrowIfNull(header);
        ArgumentNullException.ThrowIfNull(prompts);
        string[] tasks = [.. prompts.Keys.Order(StringComparer.Ordinal)];
        SubspaceFile.RequireTasks("principal components of prompts", tasks);
        header = header with { Kind = SubspaceKind.Pca, InnerDim = 0, SourceTasks = tasks, Trained = true };
        header.Validate();
        (string Task, Prompt Prompt)[] all = [.. tasks.SelectMany(t => prompts[t].Select(p => (t, p)))];
        int d = header.IntrinsicDim, n = header.PromptElements;
        if (d >= all.Length)
            throw new ArgumentException($"principal components of prompts: intrinsic_dim is {d}, expected at most {all.Length - 1}, one less than the {all.Length} prompts. Give more tasks or runs.", nameof(header));
        using DeviceBuffer table = device.Allocate(DType.F32, (long)all.Length * n, "prompts");
        for (int i = 0; i < all.Length; i++)
        {
            Prompt p = all[i].Prompt;
            if (p.Length != header.PromptLength || p.DModel != header.DModel)
                throw new ArgumentException($"principal components of prompts: a prompt of task '{all[i].Task}' has shape [{p.Length}, {p.DModel}], expected [{header.PromptLength}, {header.DModel}].", nameof(prompts));
            float scale = header.Standardisation.ScaleOf(all[i].Task);
            table.Tensor.Slice((long)i * n, n).CopyFrom<float>(Array.ConvertAll(p.Values, v => v / scale));
        }
        PrincipalComponents components = PrincipalComponents.Fit(device, table.Tensor, all.Length, n, d);
        if (components.Deviations[d - 1] <= LeastDeviation * components.Deviations[0] || components.Deviations[0] == 0)
        {
            int rank = components.Deviations.Count(s => s > LeastDeviation * components.Deviations[0] && s > 0);
            throw new ArgumentException($"principal components of prompts: intrinsic_dim is {d}, expected at most {rank}: the {all.Length} prompts span no more. Are some of them the same?", nameof(prompts));
        }
        var subspace = new LinearSubspace(device, header);
        subspace._layer.Bias.CopyFrom<float>(components.Mean);
        subspace._layer.Weight.CopyFrom<float>(components.ScaledDirections);
        subspace.Complete("principal components");
        return subspace;
    }

    internal override void Complete(string source)
    {
        if (!CanEncode)
            return;
        float[] basis = _layer.Weight.ToArray<float>(), offset = _layer.Bias.ToArray<float>();
        int d = IntrinsicDim, n = PromptElements;
        var squares = new double[d];
        var bias = new double[d];
        for (int i = 0; i < basis.Length; i++)
            squares[i % d] += (double)basis[i] * basis[i];
        for (int k = 0; k < d; k++)
        {
            if (!(squares[k] > 0 && double.IsFinite(squares[k])))
                throw new InvalidDataException($"{source}: column {k} of 'basis' has a squared length of {squares[k]}, expected a finite number above 0. Make the subspace again.");
        }
        for (int i = 0; i < basis.Length; i++)
        {
            basis[i] = (float)(basis[i] / squares[i % d]);
            bias[i % d] -= (double)basis[i] * offset[i / d];
        }
        _dual = Device.Allocate(DType.F32, (long)n * d, "subspace basis");
        _dualBias = Device.Allocate(DType.F32, d, "subspace offset");
        _dual.Tensor.CopyFrom<float>(basis);
        _dualBias.Tensor.CopyFrom<float>(Array.ConvertAll(bias, v => (float)v));
    }

    private protected override void DecodeStandardised(Tensor z, int rows, Tensor prompts) => _layer.Forward(Device, z, prompts, Ones(rows), rows);

    private protected override void DecodeStandardisedBackward(Tensor dPrompts, int rows, Tensor dz) => _layer.Backward(Device, dPrompts, dz, rows);

    private protected override void EncodeStandardised(Tensor prompts, int rows, Tensor z)
    {
        Gemm.Run(Device, new GemmArgs { Compute = ComputeType.F32, A = Ones(rows), B = _dualBias!.Tensor, C = z, M = rows, N = IntrinsicDim, K = 1 }); // CanEncode says that Complete made both
        Gemm.Run(Device, new GemmArgs { Compute = ComputeType.F32, A = prompts, B = _dual!.Tensor, C = z, M = rows, N = IntrinsicDim, K = PromptElements, Accumulate = true });
    }

    private protected override void DisposeScratch()
    {
        _dual?.Dispose();
        _dualBias?.Dispose();
    }
}
