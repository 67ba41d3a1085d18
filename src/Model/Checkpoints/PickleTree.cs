// Checks that an unpickled value is a finite, shallow structure, so that whoever walks it may recurse.
namespace IptNative.Model.Checkpoints;

/// <summary>Refuses cycles and deep nesting.</summary>
internal static class PickleTree
{
    /// <summary>Walks every container once, without recursion, however often it is shared.</summary>
    /// <param name="root">The value.</param>
    /// <param name="path">Named in messages.</param>
    /// <param name="maxDepth">Longest chain of containers.</param>
    /// <exception cref="InvalidDataException">A container holds itself, or the chain is longer.</exception>
    public static void Check(object? root, string path, int maxDepth)
    {
        // Height of each finished container; 0 while it is being walked, so that meeting it again then is a cycle.
        var height = new Dictionary<object, int>(ReferenceEqualityComparer.Instance);
        var walk = new Stack<(object Container, IEnumerator<object?> Children)>();
        Enter(root);
        while (walk.TryPeek(out (object Container, IEnumerator<object?> Children) top))
        {
            if (top.Children.MoveNext())
            {
                Enter(top.Children.Current);
                continue;
            }
            int tallest = 0;
            foreach (object? child in ChildrenOf(top.Container)!)
            {
                if (child is not null && height.TryGetValue(child, out int h))
                    tallest = Math.Max(tallest, h);
            }
            if (tallest + 1 > maxDepth)
                throw Bad($"containers nested more than {maxDepth} deep");
            height[top.Container] = tallest + 1;
            top.Children.Dispose();
            walk.Pop();
        }

        void Enter(object? value)
        {
            if (value is null || ChildrenOf(value) is not { } children)
                return;
            if (!height.TryAdd(value, 0))
            {
                if (height[value] == 0)
                    throw Bad("a container that holds itself");
                return;
            }
            walk.Push((value, children.GetEnumerator()));
        }

        InvalidDataException Bad(string found) =>
            new($"{path}: reading the pickle of a PyTorch file; found {found}. Save only the state dict, or use safetensors.");
    }

    // An empty tuple may be one shared object: it has no children, so it is no container here. Byte strings neither.
    private static IEnumerable<object?>? ChildrenOf(object value) => value switch
    {
        TorchDict dict => dict.Items.Select(i => i.Value),
        List<object?> list => list,
        byte[] => null,
        object?[] { Length: > 0 } tuple => tuple,
        _ => null,
    };
}
