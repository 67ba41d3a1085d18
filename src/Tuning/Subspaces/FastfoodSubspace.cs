// A random linear subspace of prompt space without a stored matrix. Deliberately not over the whole model's weights (SAID): the model is frozen here.
using System.Collections;
using System.Numerics;
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Optimizers;
using IptNative.Tuning.Prompts;

namespace IptNative.Tuning.Subspaces;

/// <summary>s = c H G P H B z + o, padded to a power of two; z of unit normals gives a prompt of root mean square 1 about o.</summary>
/// <remarks>
/// |H G P H B z|^2 averages N sum G^2 |z|^2, over N numbers: c = 1 / sqrt(d_I sum G^2).
/// Source: Le, Sarlos and Smola 2013; Aghajanyan et al. 2021 (SAID).
/// </remarks>
public sealed class FastfoodSubspace : PromptSubspace
{
    private readonly FastfoodTensors _map;
    private readonly Tensor _offset;
    private readonly GrowingTensor _work;
    private readonly int _padded;
    private float _factor;

    internal FastfoodSubspace(ComputeDevice device, SubspaceHeader header)
        : base(device, header)
    {
        if (header.Kind != SubspaceKind.Fastfood)
            throw new ArgumentException($"FastfoodSubspace: the header's kind is {SubspaceHeader.Name(header.Kind)}, expected fastfood.", nameof(header));
        _padded = checked((int)BitOperations.RoundUpToPowerOf2((uint)PromptElements));
        _map = new FastfoodTensors(AddTensor("signs", DType.F32, _padded), AddTensor("permutation", DType.I32, _padded), AddTensor("gauss", DType.F32, _padded));
        _offset = AddTensor("offset", DType.F32, PromptElements);
        _work = new GrowingTensor(device, DType.F32, "Fastfood's padded rows");
    }

    /// <inheritdoc/>
    public override bool CanEncode => false;

    /// <summary>A random one.</summary>
    /// <param name="device">Where its tensors shall lie.</param>
    /// <param name="header">Its sizes, scale and model; kind and seed are set.</param>
    /// <param name="seed">Of the numbers.</param>
    /// <param name="origin">The prompt of z = 0, in the model's units; null for zeros.</param>
    /// <returns>The subspace; dispose it.</returns>
    /// <exception cref="ArgumentException">The header's numbers make no subspace, or the origin has another shape.</exception>
    public static FastfoodSubspace Create(ComputeDevice device, SubspaceHeader header, long seed, Prompt? origin = null)
    {
        ArgumentNullException.ThrowIfNull(header);
        var subspace = new FastfoodSubspace(device, SubspaceFile.RandomHeader(header, SubspaceKind.Fastfood, seed));
        SeededRandom signs = new(seed, 0), order = new(seed, 1), gauss = new(seed, 2);
        SubspaceFile.Fill(subspace._map.Signs, () => signs.NextUInt64() >> 63 == 0 ? -1 : 1);
        SubspaceFile.Fill(subspace._map.Gauss, () => (float)gauss.NextNormal());
        int[] permutation = new int[subspace._padded];
        for (int i = 0; i < permutation.Length; i++)
        {
            // Fisher and Yates, inside out.
            int j = order.Next(i + 1);
            (permutation[i], permutation[j]) = (permutation[j], i);
        }
        subspace._map.Permutation.CopyFrom<int>(permutation);
        SubspaceFile.FillOrigin(subspace, subspace._offset, origin);
        subspace.Complete("Fastfood subspace");
        return subspace;
    }

    internal override void Complete(string source)
    {
        // The kernel writes through the permutation without looking: a file's is checked here.
        int[] permutation = _map.Permutation.ToArray<int>();
        var seen = new BitArray(_padded);
        for (int i = 0; i < _padded; i++)
        {
            if (permutation[i] < 0 || permutation[i] >= _padded || seen[permutation[i]])
                throw new InvalidDataException($"{source}: tensor 'permutation' holds {permutation[i]} at {i}, expected each of 0 to {_padded - 1} once. Make the subspace again.");
            seen[permutation[i]] = true;
        }
        double squares = Reductions.Dot(Device, _map.Gauss, _map.Gauss, _padded);
        _factor = (float)(1 / Math.Sqrt(IntrinsicDim * squares));
    }

    private protected override void DecodeStandardised(Tensor z, int rows, Tensor prompts)
    {
        FastfoodProjection.Forward(Device, z, _map, Work(rows), prompts, rows, IntrinsicDim, PromptElements, _factor);
        Gemm.Run(Device, new GemmArgs { Compute = ComputeType.F32, A = Ones(rows), B = _offset, C = prompts, M = rows, N = PromptElements, K = 1, Accumulate = true });
    }

    private protected override void DecodeStandardisedBackward(Tensor dPrompts, int rows, Tensor dz) =>
        FastfoodProjection.Backward(Device, dPrompts, _map, Work(rows), dz, rows, IntrinsicDim, PromptElements, _factor);

    // Encode says that there is no inverse before it comes here.
    private protected override void EncodeStandardised(Tensor prompts, int rows, Tensor z) => throw new NotSupportedException("FastfoodSubspace.Encode: a random projection has no inverse.");

    private protected override void DisposeScratch() => _work.Dispose();

    private Tensor Work(int rows) => _work.Take(2L * rows * _padded);
}
