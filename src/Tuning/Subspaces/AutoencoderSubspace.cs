// Proj and Proj_b: the subspace of Intrinsic Prompt Tuning. Deliberately not: how it is trained (MsfStep), the file formats (SubspaceFile, IptAutoencoderFile).
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Optimizers;

namespace IptNative.Tuning.Subspaces;

/// <summary>Proj: z = f(W1 s + b1) from n*D to d_I. Proj_b: s* = W3 g(W2 z + b2) + b3, from d_I over d'_I to n*D.</summary>
/// <remarks>
/// s is a prompt in standardised units, row-major [n, D]. f is the identity and g is tanh in the paper; between W1 and W2 nothing bends then. Backward of a chain
/// of linear layers and activations: docs/derivations/subspace.md. Tensor names as in the parity fixture: W1.weight [d_I, n*D], W1.bias, W2..., W3.weight [n*D, d'_I].
/// Source: Qin et al. 2021, section 3.2; thunlp/Intrinsic-Prompt-Tuning, AE_type 1 (AE_type 2: f is tanh and g the identity; 3 with more layers is not built).
/// </remarks>
public sealed class AutoencoderSubspace : PromptSubspace
{
    private readonly GrowingTensor _projected, _inner, _hidden, _dHidden, _dInner;

    internal AutoencoderSubspace(ComputeDevice device, SubspaceHeader header)
        : base(device, header)
    {
        if (header.Kind != SubspaceKind.Autoencoder)
            throw new ArgumentException($"AutoencoderSubspace: the header's kind is {SubspaceHeader.Name(header.Kind)}, expected autoencoder.", nameof(header));
        Proj = Layer("W1", PromptElements, IntrinsicDim, header.ProjBias);
        Inner = Layer("W2", IntrinsicDim, header.InnerDim, header.InnerBias);
        Outer = Layer("W3", header.InnerDim, PromptElements, header.OuterBias);
        _projected = new GrowingTensor(device, DType.F32, "subspace activations");
        _inner = new GrowingTensor(device, DType.F32, "subspace activations");
        _hidden = new GrowingTensor(device, DType.F32, "subspace activations");
        _dHidden = new GrowingTensor(device, DType.F32, "subspace gradients");
        _dInner = new GrowingTensor(device, DType.F32, "subspace gradients");

        DenseLayer Layer(string name, int inputs, int outputs, bool bias) =>
            new(AddTensor($"{name}.weight", DType.F32, outputs, inputs), bias ? AddTensor($"{name}.bias", DType.F32, outputs) : default, inputs, outputs);
    }

    /// <inheritdoc/>
    public override bool CanEncode => true;

    internal DenseLayer Proj { get; }

    internal DenseLayer Inner { get; }

    internal DenseLayer Outer { get; }

    /// <summary>A random one, as PyTorch initialises nn.Linear: U(-1/sqrt(inputs), 1/sqrt(inputs)).</summary>
    /// <param name="device">Where its tensors shall lie.</param>
    /// <param name="header">Its sizes, activations, scale, model and tasks; the seed is added.</param>
    /// <param name="seed">Of the numbers.</param>
    /// <returns>Not trained: the paper's random prompt subspace.</returns>
    /// <exception cref="ArgumentException">The header's numbers make no subspace.</exception>
    /// <exception cref="InsufficientMemoryException">The device has no room.</exception>
    public static AutoencoderSubspace Create(ComputeDevice device, SubspaceHeader header, long seed)
    {
        ArgumentNullException.ThrowIfNull(header);
        var subspace = new AutoencoderSubspace(device, header with { Kind = SubspaceKind.Autoencoder, Trained = false, Seeds = SubspaceFile.WithSeed(header, "init", seed) });
        int number = 0;
        foreach (DenseLayer layer in (DenseLayer[])[subspace.Proj, subspace.Inner, subspace.Outer])
        {
            double bound = 1 / Math.Sqrt(layer.Inputs);
            // A stream for each tensor: a layer without bias leaves the others' numbers as they are.
            foreach (Tensor tensor in (Tensor[])[layer.Weight, layer.Bias])
            {
                var random = new SeededRandom(seed, number++);
                if (!tensor.IsEmpty)
                    SubspaceFile.Fill(tensor, () => (float)(bound * (2 * random.NextDouble() - 1)));
            }
        }
        return subspace;
    }

    /// <summary>What MSF trains, in the order of the file.</summary>
    internal FactoredParameter[] Parameters() =>
        [.. Tensors.Select(t => t.Shape.Rank == 1 ? new FactoredParameter(t.Name, 1, (int)t.Shape[0], t.Value) : new FactoredParameter(t.Name, (int)t.Shape[0], (int)t.Shape[1], t.Value))];

    /// <summary>z and what stood before f, for Proj's gradient.</summary>
    internal void Project(Tensor s, Tensor projected, Tensor z, int rows)
    {
        Proj.Forward(Device, s, projected, Ones(rows), rows);
        Activation.Forward(Device, Header.ProjActivation, projected, z, z.Elements);
    }

    /// <summary>g's result of the last decoding.</summary>
    internal Tensor Hidden(int rows) => _hidden.Take((long)rows * Header.InnerDim);

    /// <summary>The gradient at W2 z + b2 of the last DecodeStandardisedBackward.</summary>
    internal Tensor InnerGradient(int rows) => _dInner.Take((long)rows * Header.InnerDim);

    internal void DecodeRows(Tensor z, int rows, Tensor s) => DecodeStandardised(z, rows, s);

    internal void DecodeRowsBackward(Tensor ds, int rows, Tensor dz) => DecodeStandardisedBackward(ds, rows, dz);

    private protected override void DecodeStandardised(Tensor z, int rows, Tensor prompts)
    {
        long elements = (long)rows * Header.InnerDim;
        Tensor inner = _inner.Take(elements), hidden = Hidden(rows), ones = Ones(rows);
        Inner.Forward(Device, z, inner, ones, rows);
        Activation.Forward(Device, Header.InnerActivation, inner, hidden, elements);
        Outer.Forward(Device, hidden, prompts, ones, rows);
    }

    private protected override void DecodeStandardisedBackward(Tensor dPrompts, int rows, Tensor dz)
    {
        long elements = (long)rows * Header.InnerDim;
        Tensor dHidden = _dHidden.Take(elements), dInner = InnerGradient(rows);
        // forward: s = W3 h + b3, so: dh = ds W3.
        Outer.Backward(Device, dPrompts, dHidden, rows);
        // forward: h = g(a), so: da = dh g'(a).
        Activation.Backward(Device, Header.InnerActivation, _inner.Take(elements), Hidden(rows), dHidden, dInner, elements);
        // forward: a = W2 z + b2, so: dz = da W2.
        Inner.Backward(Device, dInner, dz, rows);
    }

    private protected override void EncodeStandardised(Tensor prompts, int rows, Tensor z) =>
        Project(prompts, _projected.Take((long)rows * IntrinsicDim), z, rows);

    private protected override void DisposeScratch()
    {
        foreach (GrowingTensor scratch in (GrowingTensor[])[_projected, _inner, _hidden, _dHidden, _dInner])
            scratch.Dispose();
    }
}
